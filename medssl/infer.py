"""A finished classifier as one object: load it from a run or a pack, predict stored pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medssl import runs
from medssl.finetune.written import head_scores
from medssl.models import weights
from medssl.models.embed import embed
from medssl.models.encoder import Encoder, build
from medssl.models.heads import LinearHead
from medssl.store import Store


@dataclass(frozen=True)
class Classifier:
    """An encoder with a calibrated head, and all it must be fed with.

    Attributes:
        classes: values of ``target`` in order.
        thresholds: working threshold per reported class.
        card: preprocessing, keys and seen patients.
        sha256: digest of the weights.
        record: the whole of ``classifier.json``.
    """

    encoder: Encoder
    head: LinearHead
    card: weights.Card
    target: str
    classes: tuple[str, ...]
    temperature: float
    thresholds: dict[str, float]
    sha256: str
    record: dict[str, Any]

    def predict(
        self,
        store: Store,
        rows: npt.NDArray[np.int64],
        change: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Return calibrated probabilities ``[n, K]`` and features ``[n, width]`` of store rows.

        Args:
            store, rows: what to predict.
            change: of pictures before normalisation, such as a mask (``embed.MASKS``).
        """
        features = embed(self.encoder, store, rows, self.card.mean, self.card.std, change)
        return head_scores(self.head, features, self.temperature), features


def load(run: Path) -> Classifier:
    """Load the classifier of a finished finetune run or of a pack, digests checked.

    Raises:
        NothingUsableError: not such a run.
        RefusedError: weights that are not those the JSON describes.
    """
    runs.finished(run, "finetune", "pack")
    data = weights.read_json(run / "classifier.json", "classifier")
    card = weights.card_from(data, "classifier.json")
    whole = card.encoder.name.endswith("_3d")
    encoder = build(
        card.encoder, card.decode.size, whole=whole, seed=0, channels=card.decode.channels
    )
    head = LinearHead(encoder.width, len(data["classes"]))
    module = torch.nn.ModuleDict({"encoder": encoder, "head": head})
    weights.load_tensors(run / "classifier.safetensors", module, str(data["sha256"]))
    return Classifier(
        encoder.eval(),
        head.eval(),
        card,
        str(data["target"]),
        tuple(str(c) for c in data["classes"]),
        float(data["temperature"]),
        {str(k): float(v) for k, v in data["thresholds"].items()},
        str(data["sha256"]),
        data,
    )
