"""False alarms in healthy trainings, and trainings that are made to collapse: caught, and when.

Command: python benchmarks/collapse.py [--steps 60] [--healthy 20] [--out FILE]. Real draw, views, loss
and optimiser on a small synthetic cohort; resnet10t, 32 pixels, batch 16. Some seconds a run and core.
"""

import argparse
import itertools
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medssl.cohort.scan import ScanSettings, scan
from medssl.config import DecodeConfig, PretrainConfig, WatchConfig
from medssl.decode import decode
from medssl.methods import build_method
from medssl.models.encoder import Encoder, build
from medssl.synthetic import SynthesisSettings, synthesize
from medssl.train import collapse, optim
from medssl.train.course import see
from medssl.train.feed import Feed
from medssl.train.material import gather
from medssl.train.panel import choose
from medssl.train.pretrain import course_of
from medssl.train.watch import measure

SIZE, BATCH, WIDTH, MEASUREMENTS = 32, 16, 16, 3


@dataclass(frozen=True)
class Case:
    """One training: its method, temperature, optimiser and peak learning rate."""

    method: str
    temperature: float
    lr: float = 1e-3
    optimizer: str = "adamw"
    seed: int = 0
    constant: bool = False

    def __str__(self) -> str:
        """Name it as a row of the table does."""
        what = "constant encoder" if self.constant else f"{self.optimizer} lr {self.lr:g}"
        return f"{self.method}, temperature {self.temperature:g}, {what}, seed {self.seed}"


HEALTHY = [
    Case(method, temperature, seed=seed)
    for seed, method, temperature in itertools.product(
        range(4), ("simclr", "micle"), (0.1, 0.5, 1.0)
    )
]
COLLAPSING = [
    Case("simclr", 0.5, constant=True),
    Case("simclr", 0.5, lr=0.1),
    Case("simclr", 0.1, lr=1.0),
    Case("simclr", 0.5, lr=100.0),
    Case("micle", 0.5, lr=1.0),
    Case("simclr", 0.5, lr=10.0, optimizer="sgd"),
    Case("simclr", 0.005),
    Case("simclr", 10.0),
]


class Constant(nn.Module):
    """Features that know nothing of the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.linspace(0, 1, width))

    def forward(self, images: Tensor) -> Tensor:
        """Return the same row for every picture."""
        return self.value.expand(len(images), -1)


def cohort() -> Path:
    """Make, scan and decode a small synthetic cohort."""
    root = Path(tempfile.mkdtemp())
    synthesize(root / "s", SynthesisSettings(patients=60, mri_patients=0, size=48))
    source = root / "s" / "hospital_a"
    scan(ScanSettings((source,), root / "c", site="a", key_file=root / "a.key"))
    decode(root / "c", DecodeConfig(size=SIZE))
    return root / "c"


@dataclass(frozen=True)
class Seen:
    """What a training showed: two figures per step, the effective ranks, and what fell when."""

    spreads: list[float]
    losses: list[float]
    ranks: list[float]
    at: dict[str, str]

    def line(self, case: Case) -> str:
        """Return a row of the table."""
        told = " | ".join(self.at.get(what, "-") for what in ("warn", "streak", "rank"))
        last = f"{np.mean(self.losses[-10:]):.3f}; {np.mean(self.spreads[-10:]):.2f}"
        ranks = ", ".join(f"{rank:.0f}" for rank in self.ranks)
        return f"| {case} | {told} | {last} | {min(self.spreads):.2f} | {ranks} |"


def train(case: Case, data: Path, steps: int) -> Seen:
    """Train to the end, or until the projections stop it; measurements only look on."""
    config = PretrainConfig.model_validate(
        {
            "decode": {"size": SIZE},
            "encoder": {"name": "resnet10t"},
            "method": {
                "name": case.method,
                "temperature": case.temperature,
                "hidden": 64,
                "out": WIDTH,
            },
            "optim": {"name": case.optimizer, "lr": case.lr, "lr_scaling": "none"},
            "batch": BATCH,
            "duration": {"steps": steps},
            "seed": case.seed,
        }
    )
    material = gather(config, data, "none")
    course = course_of(config, material)
    encoder = build(config.encoder, SIZE, whole=False, seed=case.seed)
    if case.constant:
        encoder = Encoder(Constant(encoder.width), encoder.width, 2)
    method = build_method(config.method, encoder, case.seed).train()
    watch = WatchConfig(pictures=96)
    panel = choose(material.store, data, material.rows, None, watch, 0)

    def figures() -> dict[str, float]:
        return measure(encoder, material.store, panel, course.mean, course.std).figures

    start = figures()
    optimizer = optim.build(config.optim, method, BATCH)
    line = optim.schedule(optimizer, steps, config.optim.warmup)
    seen = Seen([], [], [start["effective_rank"]], {})
    streak, step = collapse.Streak(steps), 0
    for epoch in itertools.count():
        for batch in Feed(material.store, course.plan(epoch)):
            loss = method.loss(see(batch, config, epoch, course, method))
            if not torch.isfinite(loss.total):
                seen.at["streak"] = f"{step + 1}, loss not a number"
                return seen
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
            line.step()
            step += 1
            spread, value, equal = (
                float(v.detach()) for v in (loss.parts["z_std"], loss.total, loss.collapsed)
            )
            seen.spreads.append(spread * math.sqrt(WIDTH))
            seen.losses.append(value / equal)
            found = streak.feed(step, value, equal, spread, WIDTH)
            if found is not None:
                since = f"{step}, unwell since {found.since}"
                seen.at["warn" if found.level == "warn" else "streak"] = since
            if step % (steps // MEASUREMENTS) == 0:
                now = figures()
                seen.ranks.append(now["effective_rank"])
                if collapse.measured(start, now, 0, step) is not None:
                    seen.at.setdefault("rank", str(step))
            if step == steps or "streak" in seen.at:
                return seen
    raise AssertionError


HEAD = (
    "| training | warned at step | stopped by the projections at step | by the effective rank at step "
    "| loss / loss of equal projections; spread / healthy one: last 10 steps | least spread "
    "| effective rank at the start and later |\n|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Print and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--healthy", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data, begun, lines = cohort(), time.process_time(), []
    for title, cases in (("Healthy", HEALTHY[: options.healthy]), ("Made to collapse", COLLAPSING)):
        lines += [f"\n## {title}, {options.steps} steps\n", HEAD]
        print("\n".join(lines[-2:]), flush=True)
        rows = []
        for case in cases:
            rows.append(train(case, data, options.steps))
            lines.append(rows[-1].line(case))
            print(lines[-1], flush=True)
        caught = sum(bool({"streak", "rank"} & set(row.at)) for row in rows)
        warned = sum("warn" in row.at for row in rows)
        lines.append(f"\nWarned: {warned} of {len(rows)}; stopped: {caught} of {len(rows)}.")
        print(lines[-1], flush=True)
    lines.append(f"\n{time.process_time() - begun:.0f} seconds of a core.")
    print(lines[-1])
    if options.out is not None:
        options.out.write_text("# Collapse: false alarms, and what is caught\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
