"""What is judged: every picture, or every patient by all of their pictures together."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medssl.finetune.probe import FloatArray
from medssl.finetune.task import Task
from medssl.stats.bootstrap import Patients
from medssl.stats.metrics import IntArray

Level = Literal["image", "patient mean", "patient max"]


@dataclass(frozen=True)
class Asked:
    """What a level asks about: pictures, or patients whose pictures agree on the answer.

    Attributes:
        codes: class code of each item ``[m]``.
        groups: the items of every patient, patients numbered alike at all levels.
        owner: item of each picture ``[n]``; -1 where it is in none.
        left_out: patients whose pictures carry different answers.
    """

    codes: IntArray
    groups: Patients
    owner: IntArray
    left_out: int


def asked(task: Task, places: IntArray, level: Level) -> Asked:
    """Return the items of a level among some pictures of the task.

    A patient with several answers is positive where there are two classes or an order (any picture
    with a finding makes the patient one with it), and left out otherwise.

    Args:
        task: the question.
        places: pictures, places of the task ``[n]``.
        level: images, or patients.
    """
    codes, groups = task.codes[places], Patients.of(task.patient[places])
    if level == "image":
        return Asked(codes, groups, np.arange(len(places)), 0)
    highest = np.full(groups.count, -1)
    np.maximum.at(highest, groups.code, codes)
    lowest = np.full(groups.count, len(task.classes))
    np.minimum.at(lowest, groups.code, codes)
    known = (highest == lowest) | (len(task.classes) == 2) | task.ordered
    first = groups.order[groups.start[:-1]]
    place = np.where(known, np.cumsum(known) - 1, -1)
    return Asked(highest[known], groups.part(first[known]), place[groups.code], int((~known).sum()))


def pooled(found: Asked, scores: FloatArray, level: Level) -> FloatArray:
    """Return one row of scores per item: ``[n, K]`` of pictures to ``[m, K]``.

    Args:
        found: the items.
        scores: of every picture.
        level: ``patient mean`` averages, ``patient max`` takes the highest score of each class.
    """
    if level == "image":
        return scores
    inside = found.owner >= 0
    owner, own = found.owner[inside], scores[inside]
    if level == "patient max":
        out = np.full((len(found.codes), scores.shape[1]), -np.inf)
        np.maximum.at(out, owner, own)
        return out
    total = np.zeros((len(found.codes), scores.shape[1]))
    np.add.at(total, owner, own)
    return np.asarray(total / np.bincount(owner, minlength=len(found.codes))[:, None])
