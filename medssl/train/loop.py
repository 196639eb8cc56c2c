"""The only file that knows Lightning: one module, one callback, one fit.

A resumed run is a new Trainer that starts at an offset: order and views are functions of the epoch,
so the state is the method, the optimiser and the schedule, and nothing of Lightning's own loops.
"""

import contextlib
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from medssl import views as views_room
from medssl.cohort.draw import Plan, pair_share
from medssl.config import PretrainConfig
from medssl.errors import MedsslError, NumericalStopError, RefusedError
from medssl.files import atomic, sha256_file, write_text
from medssl.methods.base import Method
from medssl.runs import Run
from medssl.store import Store
from medssl.train import optim
from medssl.train.feed import Batch, Feed

KEPT = 3
Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Course:
    """What the loop needs beside the method.

    Attributes:
        plan: the draw of an epoch.
        total_steps: when to stop.
        mean, std: normalisation of pixels in [0, 1].
    """

    store: Store
    plan: Callable[[int], Plan]
    total_steps: int
    mean: float
    std: float


def make_views(
    batch: Batch, config: PretrainConfig, epoch: int, course: Course, count: int
) -> Tensor:
    """Return float ``[B, K, 1, (D,) H, W]``, normalised: ``count`` views of every drawn image."""
    made = []
    for image in range(batch.images.shape[1]):
        for view in range(count):
            u = views_room.uniforms(config.seed, epoch, image * count + view, batch.places)
            how = views_room.sample(config.views, u, batch.images.ndim - 3)
            made.append(views_room.apply(batch.images[:, image], how, config.views))
    return (torch.stack(made, 1) - course.mean) / course.std


@dataclass(frozen=True)
class State:
    """Where a run stands: steps and epochs done, and what the next step needs."""

    step: int = 0
    epoch: int = 0
    optimizer: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None


class _Module(pl.LightningModule):
    def __init__(
        self, method: Method, config: PretrainConfig, course: Course, run: Run, state: State
    ) -> None:
        super().__init__()
        self.method, self.config, self.course, self.run = method, config, course, run
        self.state = state
        self.now: Plan | None = None
        self.seen = 0
        self.last: dict[str, float] = {}

    @property
    def step(self) -> int:
        return int(self.state.step + self.trainer.global_step)

    @property
    def epoch(self) -> int:
        return int(self.state.epoch + self.trainer.current_epoch)

    def train_dataloader(self) -> Feed:
        self.now = self.course.plan(self.epoch)
        self.seen = 0
        return Feed(self.course.store, self.now)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        return Batch(batch.images.to(device), batch.bag.to(device), batch.row, batch.places)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        # Dropout and the like draw from the step, so that a resumed run repeats them.
        torch.manual_seed((self.config.seed << 32) ^ self.step)
        method = self.method
        seen = make_views(batch, self.config, self.epoch, self.course, method.views)
        loss = method.loss(seen, batch.bag)
        if not bool(torch.isfinite(loss.total)):
            rows = batch.row.flatten().tolist()[:8]
            words = (
                f"Step {self.step}: the loss is not a number (store rows {rows} ...). Stopped "
                "before the update; the last checkpoint is intact. Lower optim.lr or raise "
                "method.temperature, then --resume or start anew."
            )
            raise NumericalStopError(words, "E-NONFINITE")
        self.seen += len(batch.bag)
        parts = {k: float(v) for k, v in loss.parts.items()}
        self.last = {"loss": float(loss.total.detach()), **parts}
        return loss.total

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = optim.build(self.config.optim, self.method, self.config.batch)
        line = optim.schedule(optimizer, self.course.total_steps, self.config.optim.warmup)
        if self.state.optimizer is not None and self.state.schedule is not None:
            optimizer.load_state_dict(self.state.optimizer)
            line.load_state_dict(self.state.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": line, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        optim.check_gradients(self.method, f"Step {self.step}")

    def on_train_batch_end(self, *_: Any) -> None:
        self.method.after_step(min(1.0, self.step / self.course.total_steps))


class _Keeper(Callback):
    """Logs, shows progress, keeps the accounts of every epoch, saves the last three checkpoints."""

    def __init__(self, folder: Path, progress: Progress | None) -> None:
        super().__init__()
        self.folder, self.progress = folder, progress
        self.clock, self.images = time.monotonic(), 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.images += batch.row.numel()
        step, total = module.step, module.course.total_steps
        if self.progress is not None:
            self.progress(step, total, module.last)
        if step % module.config.log_every and step != total:
            return
        spent = max(1e-9, time.monotonic() - self.clock)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        line = {"step": step, "epoch": module.epoch, **module.last, "lr": rate}
        line |= {
            "pair_share": pair_share(module.now),
            "images_per_s": round(self.images / spent, 1),
        }
        module.run.log(line)
        self.clock, self.images = time.monotonic(), 0

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        planned = len(module.now.patient)
        if module.seen != planned and module.step < module.course.total_steps:
            words = f"Epoch {module.epoch} ended after {module.seen} of {planned} samples."
            raise MedsslError(words, "E-SHORT-EPOCH")
        if (module.epoch + 1) % module.config.save_every == 0:
            _save(self.folder / f"step-{module.step:08d}.ckpt", trainer, module)
            for old in checkpoints(self.folder)[:-KEPT]:
                old.unlink(missing_ok=True)
                old.with_suffix(".sha256").unlink(missing_ok=True)


def _save(place: Path, trainer: pl.Trainer, module: _Module) -> None:
    """Write a checkpoint that is old or new, never half, and its checksum."""
    data = {
        "step": module.step,
        "epoch": module.epoch + 1,
        "method": module.method.state_dict(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
    }
    with atomic(place) as out:
        torch.save(data, out)
    write_text(place.with_suffix(".sha256"), sha256_file(place) + "\n")


def _restore(path: Path, method: Method) -> State:
    """Read a checkpoint of this run into the method; tensors only."""
    data = torch.load(path, "cpu", weights_only=True)
    method.load_state_dict(data["method"])
    return State(data["step"], data["epoch"], data["optimizer"], data["schedule"])


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*.ckpt"))


def last_good(folder: Path) -> Path | None:
    """Return the newest checkpoint whose checksum holds; None when there is none.

    Raises:
        RefusedError: there are checkpoints, and every one is damaged.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        side = path.with_suffix(".sha256")
        if side.is_file() and side.read_text().strip() == sha256_file(path):
            return path
    if found:
        words = (
            f"{folder}: {len(found)} checkpoints, every one damaged. Start anew in another --out."
        )
        raise RefusedError(words, "E-CHECKPOINT")
    return None


def _trim_log(path: Path, step: int) -> None:
    """Drop lines after a step, so that a resumed run logs no step twice."""
    if path.is_file():
        lines = [json.loads(x) for x in path.read_text().splitlines() if x.endswith("}")]
        kept = [json.dumps(x) + "\n" for x in lines if x.get("step", 0) <= step]
        write_text(path, "".join(kept))


def fit(
    method: Method,
    config: PretrainConfig,
    course: Course,
    run: Run,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train a method to the end of its course, from its last checkpoint if there is one.

    Returns:
        The last values of the loss and its parts.

    Raises:
        NumericalStopError: a loss or a gradient that is not finite, before the update.
        RefusedError: every checkpoint is damaged.
    """
    folder = run.path / "checkpoints"
    start = last_good(folder)
    state = _restore(start, method) if start is not None else State()
    module = _Module(method, config, course, run, state)
    precision: Any = {"32": "32-true", "bf16": "bf16-mixed"}[config.precision]
    with _quiet():
        trainer = pl.Trainer(
            accelerator="auto",
            devices=1,
            max_steps=course.total_steps - state.step,
            max_epochs=-1,
            precision=precision,
            gradient_clip_val=config.optim.clip_norm,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Keeper(folder, progress)],
        )
        _trim_log(run.path / "log.jsonl", state.step)
        try:
            trainer.fit(module)
        except SystemExit as error:
            # Lightning turns an interruption into exit(1); the command line tells which it was.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise
    return module.last


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence Lightning's banners; what matters is told by the house."""
    import logging

    loggers = [logging.getLogger(n) for n in ("pytorch_lightning", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", module="lightning_fabric")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
