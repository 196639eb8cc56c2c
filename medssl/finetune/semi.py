"""Unlabelled training patients help the labelled ones: pseudo-labels and self-distillation on features.

Evaluation patients are never among them. Pseudo-labels: Lee 2013, kept where several teachers agree;
distillation: Chen et al. 2020 (SimCLRv2, arXiv 2006.10029, eq. 2 with temperature 1).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.config import FinetuneConfig
from medssl.finetune.probe import Features, FloatArray, IntArray, Linear, fit_linear, softmax

TEACHERS = 5


@dataclass(frozen=True)
class Helped:
    """A student, and what its unlabelled pictures gave.

    Attributes:
        model: the student.
        share: of the unlabelled pictures, those that taught.
    """

    model: Linear
    share: float


def pseudo_labelled(
    features: Features,
    codes: IntArray,
    patient: npt.NDArray[np.str_],
    unlabelled: Features,
    classes: int,
    config: FinetuneConfig,
    seed: int,
) -> Helped:
    """Learn from labels, and from unlabelled pictures on which all teachers agree and are sure.

    Args:
        features: of labelled pictures ``[n, width]``.
        codes, patient: of the same ``[n]``.
        unlabelled: features of training patients without a label ``[u, width]``.
        classes: K.
        config: ``penalty``, ``balance`` and ``agreement``.
        seed: of the teachers' patients, each drawing as many with replacement.
    """
    votes = [
        softmax(_teacher(features, codes, patient, classes, config, [seed, k]).logits(unlabelled))
        for k in range(TEACHERS)
    ]
    said = np.stack([v.argmax(1) for v in votes])
    sure = np.mean(votes, axis=0).max(1) >= config.agreement
    agreed = (said == said[0]).all(0) & sure
    x = np.concatenate([features, unlabelled[agreed]])
    y = np.concatenate([codes, said[0][agreed]])
    model = fit_linear(x, y, classes, config.penalty, balance=config.balance)
    return Helped(model, float(agreed.mean()) if len(agreed) else 0.0)


def _teacher(
    features: Features,
    codes: IntArray,
    patient: npt.NDArray[np.str_],
    classes: int,
    config: FinetuneConfig,
    seed: list[int],
) -> Linear:
    """Fit on patients drawn with replacement, every class present."""
    people, owner = np.unique(patient, return_inverse=True)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        counts = np.bincount(rng.integers(0, len(people), len(people)), minlength=len(people))
        rows = np.repeat(np.arange(len(codes)), counts[owner])
        if len(set(codes[rows].tolist())) == classes:
            return fit_linear(
                features[rows], codes[rows], classes, config.penalty, balance=config.balance
            )
    return fit_linear(features, codes, classes, config.penalty, balance=config.balance)


def distilled(
    teacher: Linear,
    features: Features,
    codes: IntArray,
    unlabelled: Features,
    config: FinetuneConfig,
) -> Helped:
    """Learn what a teacher says of unlabelled pictures, beside the labels.

    Every picture counts once; an unlabelled one counts for each class by the teacher's chance of it.

    Args:
        teacher: fitted on the labels.
        features, codes: labelled pictures ``[n, width]`` and ``[n]``.
        unlabelled: features of training patients without a label ``[u, width]``.
        config: ``penalty``.
    """
    classes = len(teacher.bias)
    soft = softmax(teacher.logits(unlabelled))
    x = np.concatenate([features, np.repeat(unlabelled, classes, axis=0)])
    y = np.concatenate([codes, np.tile(np.arange(classes), len(unlabelled))])
    weight: FloatArray = np.concatenate([np.ones(len(codes)), soft.ravel()])
    model = fit_linear(x, y, classes, config.penalty, weight=weight)
    return Helped(model, 1.0 if len(unlabelled) else 0.0)
