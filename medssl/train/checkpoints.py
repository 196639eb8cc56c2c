"""Where a run stands, on disk: written whole, with a checksum; the last three and a healthy one."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medssl.errors import DiskError, RefusedError
from medssl.files import atomic, sha256_file, write_text
from medssl.methods.base import Method

KEPT = 3
Note = Callable[[str], None]


@dataclass(frozen=True)
class State:
    """Where a run stands, and what the next step needs.

    Attributes:
        step: optimiser steps done.
        epoch: epochs done.
        batch: batches done of the epoch that is under way.
        optimizer, schedule: their states.
        streak: how long the representation has looked collapsed.
        healthy: file name of the last checkpoint that did not.
        seconds: spent on training, stops left out.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    optimizer: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None
    streak: int = 0
    healthy: str | None = None
    seconds: float = 0.0


def name_of(step: int) -> str:
    """Return the file name of a step's checkpoint."""
    return f"step-{step:08d}.ckpt"


def save(folder: Path, method: Method, state: State) -> Path:
    """Write a checkpoint that is old or new, never half, and its checksum; drop the oldest.

    Raises:
        DiskError: no room; the checkpoints before are intact.
    """
    place = folder / name_of(state.step)
    # In memory first: torch's writer turns a full disk into an error without a number.
    held = io.BytesIO()
    torch.save({"method": method.state_dict(), **vars(state)}, held)
    # The checksum first: a checkpoint that is there can then always be told from a damaged one.
    digest = hashlib.sha256(held.getbuffer()).hexdigest()
    side, there = place.with_suffix(".sha256"), place.is_file()
    write_text(side, digest + "\n")
    try:
        with atomic(place) as out:
            out.write(held.getbuffer())
    except BaseException:
        if not there:
            side.unlink(missing_ok=True)
        raise
    for old in checkpoints(folder)[:-KEPT]:
        if old.name != state.healthy:
            old.unlink(missing_ok=True)
            old.with_suffix(".sha256").unlink(missing_ok=True)
    return place


def sweep(folder: Path) -> None:
    """Remove what a kill in the midst of saving left half written."""
    for half in folder.glob(".*.tmp"):
        half.unlink(missing_ok=True)
    for side in folder.glob("step-*.sha256"):
        if not side.with_suffix(".ckpt").is_file():
            side.unlink(missing_ok=True)


def check_room(folder: Path, method: Method) -> None:
    """Refuse to start where two checkpoints do not fit.

    Raises:
        DiskError: too little room; says how much is needed.
    """
    weights = sum(p.numel() * p.element_size() for p in method.parameters())
    needed = 2 * 3 * weights  # weights and two moments, twice: the old one goes after the new
    free = shutil.disk_usage(folder).free
    if free < needed:
        words = (
            f"{folder}: {free / 2**30:.2f} GiB free, and two checkpoints take {needed / 2**30:.2f}. "
            "Free some space, or use another --out."
        )
        raise DiskError(words, "E-DISK")


def restore(path: Path, method: Method) -> State:
    """Read a checkpoint of this run into the method; tensors and plain numbers only."""
    data = torch.load(path, "cpu", weights_only=True)
    method.load_state_dict(data.pop("method"))
    return State(**data)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*.ckpt"))


def last_good(folder: Path, note: Note) -> Path | None:
    """Return the newest checkpoint whose checksum holds; None when there is none.

    Raises:
        RefusedError: there are checkpoints, and every one is damaged.
    """
    found = checkpoints(folder)
    for k, path in enumerate(reversed(found)):
        side = path.with_suffix(".sha256")
        if side.is_file() and side.read_text().strip() == sha256_file(path):
            if k:
                note(
                    f"Checkpoint {found[-1].name} is damaged (its checksum differs); going on from "
                    f"{path.name} instead. Nothing to do. [W-CKPT-FALLBACK]"
                )
            return path
    if found:
        words = (
            f"{folder}: {len(found)} checkpoints, every one damaged. Start anew in another --out."
        )
        raise RefusedError(words, "E-CHECKPOINT")
    return None


def trim_log(path: Path, step: int) -> None:
    """Drop lines after a step, so that a resumed run logs no step twice."""
    if path.is_file():
        kept = [x for x in read_log(path) if step > 0 and x.get("step", 0) <= step]
        write_text(path, "".join(json.dumps(x) + "\n" for x in kept))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a log; a line cut by a crash is left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return [x for x in lines if isinstance(x, dict)]
