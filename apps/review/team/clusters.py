"""Errors that look alike to the model, and what is more common in them than everywhere."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import text_team as text
from medssl.evaluate import attributes
from medssl.evaluate.report.page import clean

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
EACH, MOST = 12, 5
"""Errors that a group stands for, and how many groups there are at most."""

ROUNDS, STARTS = 50, 8
LEAST_OVER, LEAST_INSIDE = 0.15, 0.5
"""A level names a group if so much more of the group has it, and so much of it at all."""

MOST_NAMES = 3
LEAST_ROWS = 5
"""Levels of fewer pictures are never named: they may be one person."""


@dataclass(frozen=True)
class Level:
    """A property of pictures in words, and which pictures have it, bool ``[n]``."""

    words: str
    held: npt.NDArray[np.bool_]


def how_many(errors: int) -> int:
    """Return into how many groups so many errors are divided."""
    return max(1, min(MOST, errors // EACH))


def groups_of(rows: FloatArray, many: int) -> IntArray:
    """Return the group of every row, the largest group 0 (k-means++, the best of some starts).

    Args:
        rows: ``[n, width]``, n at least ``many``.
        many: number of groups.
    """
    rng = np.random.default_rng(0)
    tried = [_settled(rows, _starts(rows, many, rng)) for _ in range(STARTS)]
    code = min(tried, key=lambda one: one[1])[0]
    order = np.argsort(-np.bincount(code, minlength=many), kind="stable")
    rank = np.empty(many, dtype=np.int64)
    rank[order] = np.arange(many)
    return rank[code]


def _settled(rows: FloatArray, centres: FloatArray) -> tuple[IntArray, float]:
    """Return the group of every row and the sum of squared distances, from these centres on."""
    code = np.full(len(rows), -1, dtype=np.int64)
    for _ in range(ROUNDS):
        before = code
        code = _distances(rows, centres).argmin(1)
        if (code == before).all():
            break
        held = [rows[code == k] for k in range(len(centres))]
        centres = np.array([h.mean(0) if len(h) else centres[k] for k, h in enumerate(held)])
    return code, float(_distances(rows, centres).min(1).sum())


def _starts(rows: FloatArray, many: int, rng: np.random.Generator) -> FloatArray:
    """Return first centres: a row at random, then each by its squared distance to those before."""
    picked = [int(rng.integers(len(rows)))]
    while len(picked) < many:
        far = np.maximum(_distances(rows, rows[picked]).min(1), 0)
        total = float(far.sum())
        picked.append(int(rng.choice(len(rows), p=far / total if total > 0 else None)))
    return rows[picked]


def _distances(rows: FloatArray, centres: FloatArray) -> FloatArray:
    """Return squared distances ``[n, k]``."""
    cross = rows @ centres.T
    return np.asarray((rows**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * cross)


def levels(pictures: Any) -> list[Level]:
    """Return every level of the header fields, and the low and high fifth of some pixel figures.

    Args:
        pictures: an Arrow table as ``attributes`` describes it.
    """
    out = []
    for name in attributes.HEADER:
        if name in pictures.column_names:
            values = np.asarray(pictures.column(name).to_pylist(), dtype=object)
            words = name.replace("_", " ")
            known = sorted({str(v) for v in values if v is not None})
            out += [
                Level(text.LEVEL_NAME.format(name=words, level=clean(v, 30)), values == v)
                for v in known
            ]
    for name, words in text.PIXEL_WORDS.items():
        if name in pictures.column_names:
            values = pictures.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
            if np.isfinite(values).any():
                low, high = np.nanquantile(values, [0.2, 0.8])
                out.append(Level(text.DARKER.format(name=words), values < low))
                out.append(Level(text.BRIGHTER.format(name=words), values > high))
    return [one for one in out if LEAST_ROWS <= one.held.sum() < len(one.held)]


def named(inside: npt.NDArray[np.bool_], known: list[Level]) -> str:
    """Return what is more common in a group than in all pictures, the most striking first.

    Args:
        inside: which pictures are of the group, bool ``[n]``.
        known: levels over the same pictures.
    """
    found = []
    for one in known:
        share, everywhere = float(one.held[inside].mean()), float(one.held.mean())
        if share >= LEAST_INSIDE and share - everywhere >= LEAST_OVER:
            found.append((share - everywhere, one.words, share, everywhere))
    found.sort(key=lambda f: (-f[0], f[1]))
    told = [
        text.OVER.format(level=w, inside=f"{100 * s:.0f} %", everywhere=f"{100 * e:.0f} %")
        for _, w, s, e in found[:MOST_NAMES]
    ]
    return ", ".join(told) or text.NOTHING_COMMON


def share_alike(
    rows: FloatArray, patient: npt.NDArray[Any], outcome: IntArray, asked: IntArray, many: int
) -> FloatArray:
    """Return which share of the most similar pictures of other patients has the same answer, [m].

    Args:
        rows: embeddings of pictures whose answer is known ``[n, width]``.
        patient, outcome: of the same, [n].
        asked: places of the pictures in question, [m].
        many: neighbours, fewer where other patients have fewer pictures.
    """
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    out = np.full(len(asked), np.nan)
    for k, place in enumerate(asked):
        near = unit @ unit[place]
        near[patient == patient[place]] = -np.inf
        order = np.argsort(-near, kind="stable")[:many]
        order = order[np.isfinite(near[order])]
        if order.size:
            out[k] = float((outcome[order] == outcome[place]).mean())
    return out
