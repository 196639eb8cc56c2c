"""Classifiers on frozen features, behind one door."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.config import FinetuneConfig
from medssl.errors import NothingUsableError
from medssl.finetune import levels, semi
from medssl.finetune.attention import fit_attention
from medssl.finetune.cells import Cell, Where
from medssl.finetune.probe import FloatArray, IntArray, Linear, fit_linear, fit_ordinal, softmax
from medssl.finetune.starts import Start
from medssl.finetune.task import Task
from medssl.stats import probes
from medssl.stats.bootstrap import Patients

RIDGE_SLOPE = 2.0
"""Logits per unit of a ridge score: a score of 1 against -1 is a chance of 0.98 in two classes."""


@dataclass(frozen=True)
class Plan:
    """One draw of labels for one start.

    Attributes:
        start: the initialisation.
        budget, seed: of the draw.
        places: labelled training pictures, places of the task.
    """

    start: Start
    budget: float
    seed: int
    places: IntArray

    def where(self, mode: str) -> Where:
        """Return the place of one mode."""
        return Where(self.start.name, mode, self.budget, self.seed)


@dataclass(frozen=True)
class Given:
    """What a mode may see: the labelled features of one draw, and those without a label.

    Attributes:
        task, plan, config: where they come from.
        features: labelled ``[n, width]``.
        codes, patient: of the same ``[n]``.
    """

    task: Task
    plan: Plan
    config: FinetuneConfig
    features: npt.NDArray[np.float32]
    codes: IntArray
    patient: npt.NDArray[Any]

    @property
    def classes(self) -> int:
        """Return K."""
        return len(self.task.classes)

    @property
    def unlabelled(self) -> npt.NDArray[np.float32]:
        """Return features of training patients whose labels are not in the draw ``[u, width]``."""
        rest = self.task.split == "train"
        rest[self.plan.places] = False
        return np.concatenate([self.plan.start.features[rest], self.plan.start.free])


@dataclass(frozen=True)
class Fitted:
    """What a mode made: a linear model, or scores of every picture ``[n, K]``; and its choices."""

    model: Linear | None = None
    scores: FloatArray | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def probe(task: Task, plan: Plan, mode: str, config: FinetuneConfig) -> Cell:
    """Fit one classifier on the frozen features of one draw.

    Args:
        task: the question.
        plan: start, budget, draw and the labelled places.
        mode: one of ``MODES``.
        config: settings.
    """
    patient = task.patient[plan.places]
    features, codes = plan.start.features[plan.places], task.codes[plan.places]
    found = MODES[mode](Given(task, plan, config, features, codes, patient))
    scores = found.scores
    if found.model is not None:
        scores = softmax(found.model.logits(plan.start.features))
    assert scores is not None  # noqa: S101
    people = len(set(patient))
    return Cell(plan.where(mode), people, len(codes), scores, found.model, found.facts)


def linear(given: Given) -> Linear:
    """Fit the logistic probe of the settings; ordered classes share one direction."""
    fit = fit_ordinal if given.task.ordered else fit_linear
    config = given.config
    return fit(given.features, given.codes, given.classes, config.penalty, balance=config.balance)


def _linear(given: Given) -> Fitted:
    return Fitted(linear(given))


def _ridge(given: Given) -> Fitted:
    if len(set(given.patient)) < 2:
        words = "ridge: all labelled pictures are one patient's; nobody can be left out."
        raise NothingUsableError(words, "E-ONEPATIENT")
    found = probes.fit_ridge(given.features, given.codes, given.patient, given.classes)
    model = Linear(RIDGE_SLOPE * found.weight, RIDGE_SLOPE * found.bias)
    return Fitted(model, facts={"penalty": found.penalty})


def _knn(given: Given) -> Fitted:
    every, k = given.plan.start.features, given.config.neighbours
    scores = probes.knn_scores(given.features, given.codes, given.classes, every, k)
    return Fitted(scores=scores)


def _attention(given: Given) -> Fitted:
    """Learn from patients whose pictures agree; every picture gets its patient's answer."""
    found = levels.asked(given.task, given.plan.places, "patient mean")
    inside = found.owner >= 0
    scores = fit_attention(
        given.features[inside],
        found.codes[found.owner[inside]],
        Patients.of(given.patient[inside]),
        given.classes,
        given.plan.start.features,
        Patients.of(given.task.patient),
        given.config.penalty,
        given.plan.seed,
    )
    return Fitted(scores=scores)


def _pseudo(given: Given) -> Fitted:
    found = semi.pseudo_labelled(
        given.features,
        given.codes,
        given.patient.astype(str),
        given.unlabelled,
        given.classes,
        given.config,
        given.plan.seed,
    )
    return Fitted(found.model, facts={"pseudo_share": round(found.share, 4)})


def _distilled(given: Given) -> Fitted:
    teacher = linear(given)
    found = semi.distilled(teacher, given.features, given.codes, given.unlabelled, given.config)
    return Fitted(found.model)


MODES: dict[str, Callable[[Given], Fitted]] = {
    "linear": _linear,
    "ridge": _ridge,
    "knn": _knn,
    "attention": _attention,
    "pseudo": _pseudo,
    "distilled": _distilled,
}
