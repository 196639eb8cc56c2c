"""From a finished run to a folder that another library reads; all of it, or nothing."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.errors import RefusedError, UsageError
from medssl.export import sidecar as sidecar_room
from medssl.export.graph import to_onnx
from medssl.export.plain import Made, to_safetensors, to_timm, to_torchvision
from medssl.export.subject import Pictures, Subject, load, pictures_for
from medssl.files import atomic, write_json, write_text

TARGETS: dict[str, Callable[[Subject, int, Pictures], Made]] = {
    "timm": to_timm,
    "torchvision": to_torchvision,
    "safetensors": to_safetensors,
    "onnx": to_onnx,
}


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        path: the folder.
        summary: the facts a person sees.
    """

    path: Path
    summary: dict[str, Any]


def export(
    run: Path, target: str, out: Path, *, channels: int | None = None, with_ledger: bool = False
) -> Exported:
    """Write a run's weights for another library, with ``preprocess.json`` and ``README.md``.

    The weights are read back (timm, torchvision, MONAI, onnxruntime) and compared with the run's own
    answers on random pictures, and on stored ones where the cohort is still there, before anything
    is written.

    Args:
        run: a finished pretrain or finetune run, or a pack.
        target: one of ``TARGETS``.
        out: the folder; new or empty.
        channels: None for the run's own; 3 for a grey picture three times.
        with_ledger: also write digests of the patients and pictures seen.

    Raises:
        MedsslError: no such run, a network that the target lacks, a folder in use, or answers that
            differ.
    """
    if target not in TARGETS or channels not in (None, 1, 3):
        words = (
            f"--to is one of {', '.join(TARGETS)}, --channels 1 or 3 (got {target}, {channels})."
        )
        raise UsageError(words, "E-USAGE")
    _check_free(out)
    subject = load(run)
    channels = subject.encoder.channels if channels is None else channels
    made = TARGETS[target](subject, channels, pictures_for(run, subject))
    told = sidecar_room.sidecar(subject, made, target, channels, with_ledger=with_ledger)
    with _whole(out) as folder:
        with atomic(folder / made.file) as file:
            file.write(made.data)
        write_json(folder / sidecar_room.SIDECAR, told)
        write_text(folder / sidecar_room.README, sidecar_room.readme(subject, made, told))
        if with_ledger:
            write_json(folder / sidecar_room.LEDGER, sidecar_room.ledger(subject))
    return Exported(out, _summary(told))


def _summary(told: dict[str, Any]) -> dict[str, Any]:
    proof = told["weights"]["proof"]
    return {
        "weights": f"{told['weights']['file']} ({told['weights']['bytes'] / 2**20:.1f} MiB)",
        "sha256": told["weights"]["sha256"],
        "network": f"{told['network']['name']}, {told['network']['library']}",
        "input": f"{told['input']['dtype']} {told['input']['layout']}, side {told['input']['shape'][-1]}",
        "output": f"{told['output']['name']}, {told['output']['shape'][1]}",
        "largest_difference": f"{proof['largest_difference']:.2g} on {proof['random_pictures']} random and "
        f"{proof['stored_pictures']} stored pictures, read by {proof['read_by']}",
        "ledger": "travels" if told["ledger"]["travelled"] else "stayed (--with-ledger)",
    }


def _check_free(out: Path) -> None:
    """Raise RefusedError unless a folder is new or empty."""
    if out.exists() and not out.is_dir():
        raise RefusedError(f"{out}: is a file; an export needs a folder of its own.", "E-NOTEMPTY")
    there = list(out.iterdir()) if out.is_dir() else []
    if there:
        words = f"{out}: not empty ({len(there)} entries); nothing was written. Use another --out."
        raise RefusedError(words, "E-NOTEMPTY")


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Give a hidden folder beside ``out`` that takes its place at the end, or is removed."""
    place = out.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        yield hidden
        umask = os.umask(0)
        os.umask(umask)
        hidden.chmod(0o777 & ~umask)
        _check_free(place)
        hidden.replace(place)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
