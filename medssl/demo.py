"""The main job on sample_data/, verb by verb, with every command said aloud."""

from collections.abc import Callable
from pathlib import Path

from medssl.cohort.scan import ScanSettings, scan
from medssl.cohort.split import split
from medssl.config import (
    DecodeConfig,
    Duration,
    EvaluateConfig,
    FinetuneConfig,
    MICLeConfig,
    OptimConfig,
    PretrainConfig,
    SimCLRConfig,
)
from medssl.decode import decode
from medssl.errors import RefusedError
from medssl.external import evaluate_at
from medssl.files import write_text
from medssl.finetune.curve import as_text
from medssl.finetune.finetune import finetune
from medssl.finetune.starts import PRETRAINED
from medssl.synthetic import SynthesisSettings, synthesize
from medssl.train.pretrain import pretrain

SIZE = 64
EPOCHS = 40
BATCH = 64
# Synthetic patients need no secret; a fixed key gives everybody the same pseudonyms and splits.
DEMO_KEY = "synthetic patients only: this key protects nobody"
Say = Callable[[str], None]


def demo(out: Path, sample: Path, say: Say) -> None:
    """Run every verb on the synthetic hospitals and say where the results are.

    Raises:
        RefusedError: ``out`` is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise RefusedError(f"{out}: not empty. Use another --out, or remove it.", "E-NOTEMPTY")
    if not (sample / "hospital_a").is_dir():
        sample = out / "sample_data"
        say(f"[0/7] synthesize -> {sample}")
        synthesize(sample, SynthesisSettings())
    _cohorts(out, sample, say)
    _models(out, say)
    report = evaluate_at(EvaluateConfig(), out / "classifier", out / "hospital_b", out / "at_b")
    say(f"[7/7] evaluate at hospital B: {report.summary['verdict']}")
    for reason in report.summary["reasons"]:
        say(f"      {reason}")
    say(f"      AUROC at A (held-out patients): {report.summary['auroc_source']}")
    say(f"      AUROC at B:                     {report.summary['auroc_here']}")
    say("")
    say(
        "(160 small synthetic patients, findings graded down to invisible: little can be learnt here, and"
    )
    say(" the report says so. docs/results/main-job.md has the figures on real images.)")
    say(f"The report:   {out}/at_b/report.html")
    say(f"The app:      make app RUNS={out}     (or: medssl app {out})")


def _cohorts(out: Path, sample: Path, say: Say) -> None:
    for name, source in (
        ("hospital_a", sample / "hospital_a"),
        ("hospital_b", sample / "hospital_b"),
    ):
        labels = (source / "labels.csv",)
        key = _key(out, name)
        done = scan(ScanSettings((source,), out / name, site=name, labels=labels, key_file=key))
        say(
            f"[1/7] scan {name}: {done.found} files = {done.indexed} indexed + {done.skipped} skipped "
            f"+ {done.quarantined} quarantined; {done.patients} patients"
        )
    done = scan(
        ScanSettings(
            (sample / "mri",),
            out / "mri",
            site_column="site",
            labels=(sample / "mri" / "slices.csv",),
            key_file=_key(out, "mri"),
        )
    )
    say(
        f"[1/7] scan mri (NIfTI): {done.images} volumes of {done.patients} patients at {len(done.sites)} sites"
    )
    for name in ("hospital_a", "hospital_b", "mri"):
        stored = decode(out / name, DecodeConfig(size=SIZE))
        say(f"[2/7] decode {name}: {stored.items} pictures stored, {stored.set_aside} set aside")
    for name in ("hospital_a", "mri"):
        parts = split(out / name, seed=0).patients
        say(f"[3/7] split {name}: " + ", ".join(f"{n} {s}" for s, n in parts.items()))


def _key(out: Path, name: str) -> Path:
    path = out / "keys" / f"{name}.key"
    write_text(path, DEMO_KEY, 0o600)
    return path


def _models(out: Path, say: Say) -> None:
    base = {
        "decode": DecodeConfig(size=SIZE),
        "duration": Duration(epochs=EPOCHS),
        "batch": BATCH,
        "precision": "bf16",
    }
    simclr = PretrainConfig(method=SimCLRConfig(name="simclr"), optim=OptimConfig(lr=0.002), **base)
    first = pretrain(simclr, out / "hospital_a", out / "simclr")
    say(f"[4/7] pretrain SimCLR: {_line(first.summary)}")
    micle = PretrainConfig(
        method=MICLeConfig(name="micle"),
        optim=OptimConfig(lr=0.001),
        init=str(out / "simclr"),
        **base,
    )
    second = pretrain(micle, out / "hospital_a", out / "micle")
    share = 100 * second.summary["pair_share"]
    say(f"[5/7] pretrain MICLe from it: {_line(second.summary)}; {share:.0f} % two-image pairs")
    settings = FinetuneConfig(target="finding", budgets=(10, 50, 100), seeds=3, resamples=300)
    for encoder, name in (("simclr", "simclr_classifier"), ("micle", "classifier")):
        done = finetune(settings, {PRETRAINED: out / encoder}, out / "hospital_a", out / name)
        say(
            f"[6/7] finetune on {encoder} ({done.summary['seconds']:.0f} s); held-out patients of A:"
        )
        say(as_text(out / name))


def _line(summary: dict[str, float]) -> str:
    return f"{summary['steps']} steps in {summary['seconds']:.0f} s, loss {summary['loss']:.2f}"
