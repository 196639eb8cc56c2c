"""Classifiers on frozen features, behind one door."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from medssl.config import FinetuneConfig
from medssl.errors import NothingUsableError
from medssl.finetune.cells import Cell, Where
from medssl.finetune.probe import Features, IntArray, Linear, fit_linear, softmax
from medssl.finetune.starts import Start
from medssl.finetune.task import Task
from medssl.stats import probes

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


def probe(task: Task, plan: Plan, mode: str, config: FinetuneConfig) -> Cell:
    """Fit one classifier on the frozen features of one draw.

    Args:
        task: the question.
        plan: start, budget, draw and the labelled places.
        mode: linear, ridge or knn.
        config: settings.
    """
    every, codes = plan.start.features, task.codes[plan.places]
    features, many = every[plan.places], len(task.classes)
    patient = task.patient[plan.places]
    model: Linear | None = None
    facts: dict[str, Any] = {}
    if mode == "linear":
        model = linear(features, codes, many, config)
    elif mode == "ridge":
        if len(set(patient)) < 2:
            words = "ridge: all labelled pictures are one patient's; nobody can be left out."
            raise NothingUsableError(words, "E-ONEPATIENT")
        found = probes.fit_ridge(features, codes, patient, many)
        model = Linear(RIDGE_SLOPE * found.weight, RIDGE_SLOPE * found.bias)
        facts = {"penalty": found.penalty}
    if model is None:
        scores = probes.knn_scores(features, codes, many, every, config.neighbours)
    else:
        scores = softmax(model.logits(every))
    where, patients = plan.where(mode), len(set(patient))
    return Cell(where, patients, len(plan.places), scores, model, facts)


def linear(features: Features, codes: IntArray, classes: int, config: FinetuneConfig) -> Linear:
    """Fit the logistic probe of the settings."""
    return fit_linear(np.asarray(features), codes, classes, config.penalty, balance=config.balance)
