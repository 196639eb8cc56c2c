"""What a representation is like while it is trained: figures of frozen features of one panel."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from medssl.errors import NumericalStopError
from medssl.models.embed import device, embed
from medssl.models.encoder import Encoder
from medssl.stats import representation
from medssl.stats.bootstrap import Patients
from medssl.stats.metrics import FloatArray
from medssl.stats.probes import fit_ridge, knn_scores, macro, macro_statistic, standard_error
from medssl.stats.readable import readable, same_patient
from medssl.store import Store
from medssl.train.panel import LEVEL_PATIENTS, Labelled, Panel

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measurement:
    """The figures of one encoder on one panel.

    Attributes:
        figures: by name; what the panel cannot tell is absent.

            ``effective_rank`` 1 to the width; ``uniformity`` 0 down to -4; ``feature_std`` 0 to about
            1; ``alignment`` 0 to 4, pictures of one patient; ``retrieval`` and
            ``retrieval_chance``, shares; ``site_auroc`` or ``manufacturer_auroc``, 0.5 is chance;
            ``ridge``, ``knn`` and their ``_se`` by patients, macro AUROC.
        scores: of each probe, the pictures asked ``[m, K]``, for a paired comparison.
    """

    figures: dict[str, float]
    scores: dict[str, FloatArray]


def measure(encoder: Encoder, store: Store, panel: Panel, mean: float, std: float) -> Measurement:
    """Measure an encoder, which is left in the mode and on the device it was in.

    Nothing is drawn from a global generator, and the same weights give the same figures.

    Args:
        encoder: measured in evaluation mode and 32 bits.
        store: where the panel's rows are.
        panel: what to look at.
        mean, std: normalisation of pixels in [0, 1] that this encoder is used with.

    Raises:
        NumericalStopError: a feature is not a number.
    """
    labelled = panel.labelled.rows if panel.labelled is not None else panel.rows
    wanted = np.union1d(panel.rows, labelled)
    with _frozen(encoder):
        found = embed(encoder, store, wanted, mean, std)
    bad = int(np.count_nonzero(~np.isfinite(found).all(axis=1)))
    if bad:
        words = (
            f"{bad} of {len(found)} watched pictures have features that are not numbers, though the "
            "loss was one: the running statistics of the batch norm have grown out of range. Start "
            "anew with a lower optim.lr, or with encoder.norm=group."
        )
        raise NumericalStopError(words, "E-NONFINITE")
    figures = _unlabelled(found[np.searchsorted(wanted, panel.rows)], panel)
    scores: dict[str, FloatArray] = {}
    if panel.labelled is not None:
        scores = _probes(found[np.searchsorted(wanted, panel.labelled.rows)], panel.labelled)
        figures |= _judged(scores, panel.labelled)
    return Measurement(figures, scores)


@contextmanager
def _frozen(encoder: Encoder) -> Iterator[None]:
    """Move to the device that embeds, outside its inference mode, and put everything back."""
    modes = [(part, part.training) for part in encoder.modules()]
    home = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    encoder.to(device())
    try:
        with torch.autocast(device().type, enabled=False):
            yield
    finally:
        encoder.to(home)
        for part, training in modes:
            part.training = training


def _unlabelled(features: Features, panel: Panel) -> dict[str, float]:
    """Figures that need no label."""
    retrieval = same_patient(features, panel.patient, resamples=1)
    figures = {
        "effective_rank": representation.effective_rank(features),
        "uniformity": representation.uniformity(features),
        "feature_std": representation.spread(features),
        "alignment": representation.alignment(features, panel.patient),
        "retrieval": retrieval.share.value if retrieval.share is not None else None,
        "retrieval_chance": retrieval.chance,
    }
    if panel.attribute is not None:
        there = panel.level != ""
        told = readable(
            features[there],
            panel.level[there],
            panel.patient[there],
            least=LEVEL_PATIENTS,
            resamples=1,
        )
        figures[f"{panel.attribute}_auroc"] = told.auroc.value if told.auroc is not None else None
    return _known(figures)


def _probes(features: Features, labelled: Labelled) -> dict[str, FloatArray]:
    """Scores of the pictures asked, by probes that never saw their patients, [m, K] each."""
    many, codes, who = len(labelled.classes), labelled.codes, labelled.patient
    found = {name: np.zeros((len(codes), many)) for name in ("ridge", "knn")}
    for fold in np.unique(labelled.fold[labelled.asked]):
        new = labelled.fold == fold
        bank, known = features[~new], codes[~new]
        found["ridge"][new] = fit_ridge(bank, known, who[~new], many).scores(features[new])
        found["knn"][new] = knn_scores(bank, known, many, features[new])
    return {name: scores[labelled.asked] for name, scores in found.items()}


def _judged(scores: dict[str, FloatArray], labelled: Labelled) -> dict[str, float]:
    """Macro AUROC of each probe and its standard error over patients."""
    codes = labelled.codes[labelled.asked]
    groups = Patients.of(labelled.patient[labelled.asked])
    figures: dict[str, float | None] = {}
    for name, of in scores.items():
        figures[name] = macro(codes, of)
        figures[f"{name}_se"] = standard_error(macro_statistic(codes, of, groups), groups)
    return _known(figures)


def _known(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Leave out what could not be computed."""
    return {name: float(value) for name, value in figures.items() if value is not None}
