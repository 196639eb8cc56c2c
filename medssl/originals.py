"""A cohort's own files, opened one at a time at full depth for a person to look at."""

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.cohort import accounts
from medssl.formats import worker

DEADLINE_S = 30.0


@dataclass(frozen=True)
class Original:
    """One image or volume.

    Attributes:
        facts: see ``formats.display.shown``, with ``calibrated``: False where the spacing is that of
            the detector and not of the patient.
        values: ``[D, H, W]`` (``[D, H, W, 3]`` of colours), little-endian, volumes in house order.
    """

    facts: dict[str, Any]
    values: npt.NDArray[Any]


class Reader:
    """One child process that opens files under limits; its callers take turns."""

    def __init__(self) -> None:
        self._pool = worker.Pool(1)
        self._turn = threading.Lock()

    def open(self, root: Path, image_id: str) -> Original | str:
        """Return an image of a cohort at full depth, or a sentence that says why it cannot be shown.

        Args:
            root: the cohort, with its private folder.
            image_id: as the manifest has it.
        """
        paths, identities = _where(root, image_id)
        if not paths:
            return "Where this picture's file lies is not known on this machine."
        if not all(Path(p).is_file() for p in paths):
            return "The file of this picture is no longer where it was when it was read in."
        job = worker.Job(image_id, "show", paths, {"identities": identities})
        with self._turn:
            answer = next(iter(self._pool.run([job], DEADLINE_S)))
        if answer.code:
            return (
                f"The file of this picture could not be opened: {answer.sentence} ({answer.code})."
            )
        return Original(answer.data, np.asarray(answer.arrays[0]))

    def stop(self) -> None:
        """End the child."""
        with self._turn:
            self._pool.stop()


def _where(root: Path, image_id: str) -> tuple[tuple[str, ...], list[str]]:
    record = root / accounts.FOLDER / "paths.json"
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return (), []
    found = told.get("images", {}).get(image_id, [])
    return tuple(str(p) for p in found), list(told.get("identities", {}).get(image_id, []))
