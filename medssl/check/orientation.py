"""Suspicion of pictures upside down, mirrored or negative: radiographs against their own mean."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from medssl.check.health import Cell, Finding, Level, Part, Section, Table, finding
from medssl.check.pictures import Pictures
from medssl.store import Store

RADIOGRAPHS = ("CR", "DX", "RG", "MG", "PX", "IO", "XC")
ALIKE = ("modality", "view", "laterality", "body_part")
LEAST_GROUP = 30
FOLDS = 5
RIDGE = 0.1
# A picture is suspected when its score is turned round by half the typical score and lies this far
# below it, in robust standard deviations.
TURNED = -0.5
FAR = -4.5
# Typical score over its spread: below 2 the turn cannot be told, from 4 on hardly be mistaken.
TOLD, PLAIN = 2.0, 4.0
LIKENESS = 0.5
NEGATIVE = 0.3
AXES = {"upside down": 1, "mirrored": 2}

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdicts:
    """One group against its mean.

    Attributes:
        turned: for every turn, which pictures are suspected.
        separation: for every turn, the typical score over its spread.
        seen: for every turn, the share of the pictures that would be suspected if turned.
        negative: which look like a negative; None where the pictures are too unlike each other.
    """

    turned: dict[str, npt.NDArray[np.bool_]]
    separation: dict[str, float]
    seen: dict[str, float]
    negative: npt.NDArray[np.bool_] | None


def standardise(thumbs: npt.NDArray[Any]) -> Reals:
    """Return ``[n, h, w]`` with mean 0 and length 1 per picture; constant ones stay 0."""
    centred = thumbs - thumbs.mean((1, 2), keepdims=True, dtype=np.float64)
    length = np.sqrt((centred**2).sum((1, 2), keepdims=True))
    return np.asarray(centred / np.where(length > 0, length, 1))


def turn_scores(pictures: Reals, axis: int) -> Reals:
    """Return how much each picture resembles the mean as it is rather than flipped.

    The half of a picture that changes sign under the flip is correlated with that of the other
    pictures' mean, each place weighted by how little it varies (Fisher's linear discriminant
    between pictures and their flipped twins, ridge-regularised); a picture never judges itself
    (five folds). A flipped picture has the negative score.

    Args:
        pictures: ``[n, h, w]``, standardised.
        axis: 1 flips up and down, 2 left and right.
    """
    if axis == 1:
        # Half a turn is upside down too, whatever it does to left and right.
        pictures = (pictures + np.flip(pictures, 2)) / 2
    odd = ((pictures - np.flip(pictures, axis)) / 2).reshape(len(pictures), -1)
    fold = np.arange(len(odd)) % FOLDS
    out = np.empty(len(odd))
    for k in range(FOLDS):
        others = odd[fold != k]
        scatter = others.T @ others / len(others)
        strength = RIDGE + odd.shape[1] / len(others)  # few pictures: nearly the plain mean
        level = max(float(np.trace(scatter)) / len(scatter), 1e-12)
        weights = np.linalg.solve(scatter + strength * level * np.eye(len(scatter)), others.mean(0))
        out[fold == k] = odd[fold == k] @ weights
    return out


def negatives(pictures: Reals) -> npt.NDArray[np.bool_] | None:
    """Return which pictures resemble the negative of the others' mean best, flipped or not.

    Args:
        pictures: ``[n, h, w]``, standardised.

    Returns:
        None where the pictures are too unlike each other to say.
    """
    flat = pictures.reshape(len(pictures), -1)
    total = flat.sum(0)
    others = total - flat
    length = np.maximum(np.sqrt((others**2).sum(1)), 1e-12)
    straight = (flat * others).sum(1) / length
    if np.median(straight) < LIKENESS:
        return None
    flipped = np.flip(pictures, 1).reshape(len(pictures), -1)
    upside = (flipped * others).sum(1) / length
    best = np.maximum(straight, np.abs(upside))
    return np.asarray((-straight > NEGATIVE) & (-straight > best))


def judge(thumbs: npt.NDArray[Any]) -> Verdicts:
    """Judge one group of like pictures, ``[n, h, w]``."""
    pictures = standardise(thumbs)
    negative = negatives(pictures)
    upright = pictures if negative is None else np.where(negative[:, None, None], -1, 1) * pictures
    turned, separation, seen = {}, {}, {}
    for name, axis in AXES.items():
        scores = turn_scores(np.asarray(upright), axis)
        middle = float(np.median(scores))
        spread = 1.4826 * float(np.median(np.abs(scores - middle)))
        separation[name] = middle / spread if spread > 0 else 0.0
        limit = min(TURNED * middle, middle + FAR * spread)
        told = separation[name] >= TOLD
        turned[name] = (scores < limit) & told
        seen[name] = float((-scores < limit).mean()) if told else 0.0
    return Verdicts(turned, separation, seen, negative)


def check(manifest: pa.Table, store: Store, seen: Pictures) -> Section:
    """Judge the radiographs of a store; a suspicion, never a verdict.

    Args:
        manifest: the cohort's table of images.
        store: where the pictures come from.
        seen: the pictures measured; blank ones and noise are left out.
    """
    ids = store.index["image_id"].take(pa.array(seen.rows))
    place = pc.index_in(ids, value_set=manifest["image_id"].combine_chunks())
    facts = manifest.select([*ALIKE, "kind"]).take(place)
    usable = _usable(facts) & ~seen.blank & ~seen.noise
    names = np.asarray(ids.to_pylist(), object)
    groups = _groups(facts, usable)
    small = sum(len(rows) for rows in groups.values() if len(rows) < LEAST_GROUP)
    large = {n: rows for n, rows in groups.items() if len(rows) >= LEAST_GROUP}
    verdicts = {n: judge(seen.thumbs[rows]) for n, rows in large.items()}
    findings = [_negative(verdicts, large, names)]
    findings += [_turn(turn, verdicts, large, names, small) for turn in AXES]
    if not large:
        words = "Upside-down, mirrored and negative pictures: not looked for, {n} radiographs are too few."
        findings = [finding("ok", "H-TURNED", words, n=small)]
    return Section(tuple(findings), (_table(verdicts, large),) if large else ())


def _usable(facts: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which pictures are single projections; a PNG states no modality and may be one."""
    modality = facts["modality"]
    planar = pc.and_(
        pc.equal(facts["kind"], "image"),
        pc.or_(pc.is_null(modality), pc.is_in(modality, value_set=pa.array(RADIOGRAPHS))),
    )
    return np.asarray(pc.fill_null(planar, fill_value=False).to_pylist(), bool)


def _groups(facts: pa.Table, usable: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.int64]]:
    keys = zip(*(facts[name].to_pylist() for name in ALIKE), strict=True)
    labels = [" ".join(str(v) for v in key if v) or "not stated" for key in keys]
    kinds, kind = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    out = {str(name): np.flatnonzero(usable & (kind == k)) for k, name in enumerate(kinds)}
    return {name: rows for name, rows in out.items() if len(rows)}


def _negative(
    verdicts: dict[str, Verdicts],
    groups: dict[str, npt.NDArray[np.int64]],
    names: npt.NDArray[Any],
) -> Finding:
    hits = [groups[n][v.negative] for n, v in verdicts.items() if v.negative is not None]
    judged = sum(len(groups[n]) for n, v in verdicts.items() if v.negative is not None)
    found = np.concatenate([np.empty(0, np.int64), *hits])
    if not judged:
        words = "Negatives: cannot be told here, the pictures are too unlike each other."
        return finding("ok", "H-NEGATIVE", words)
    n = Part(len(found), judged)
    if len(found):
        words = (
            "{n} radiographs may be negatives (they resemble the mean picture with black and white exchanged). "
            "A suspicion: look at them, and at PhotometricInterpretation in their headers."
        )
        return finding("warn", "H-NEGATIVE", words, list(names[found]), n=n)
    words = "None of {judged} radiographs looks like a negative of the others."
    return finding("ok", "H-NEGATIVE", words, judged=judged)


def _turn(
    turn: str,
    verdicts: dict[str, Verdicts],
    groups: dict[str, npt.NDArray[np.int64]],
    names: npt.NDArray[Any],
    small: int,
) -> Finding:
    code = "H-UPSIDE-DOWN" if turn == "upside down" else "H-MIRRORED"
    told = {n: v for n, v in verdicts.items() if v.separation[turn] >= TOLD}
    judged = sum(len(groups[n]) for n in told)
    rest = small + sum(len(groups[n]) for n in verdicts if n not in told)
    left = "; {rest} others could not be judged" if rest else ""
    if not told:
        words = (
            "Pictures {turn}: cannot be told here, the radiographs are too much alike either way."
        )
        return finding("ok", code, words, turn=turn)
    hits = {n: groups[n][v.turned[turn]] for n, v in told.items()}
    found = np.concatenate(list(hits.values()))
    sees = sum(v.seen[turn] * len(groups[n]) for n, v in told.items()) / judged
    values: dict[str, Cell] = {"turn": turn, "n": Part(len(found), judged), "sees": f"{sees:.0%}"}
    values |= {"judged": judged, "rest": rest}
    if not len(found):
        words = (
            "None of {judged} radiographs looks {turn} (of turned ones this would see about {sees})"
            + left
            + "."
        )
        return finding("ok", code, words, **values)
    sure = any(v.separation[turn] >= PLAIN for n, v in told.items() if len(hits[n]))
    level: Level = "warn" if sure else "note"
    words = (
        "{n} radiographs may be {turn} (they resemble the mean picture better when flipped; of turned ones "
        "this would see about {sees})" + left + ". A suspicion: look before you correct anything."
    )
    return finding(level, code, words, list(names[found]), **values)


def _table(verdicts: dict[str, Verdicts], groups: dict[str, npt.NDArray[np.int64]]) -> Table:
    head = ("radiographs", "pictures", *(f"separation, {turn}" for turn in AXES))
    rows: list[tuple[Cell, ...]] = [
        (name, len(groups[name]), *(round(v.separation[turn], 1) for turn in AXES))
        for name, v in verdicts.items()
    ]
    return Table("How plainly a turn shows (below 2 it cannot be told)", head, tuple(rows))
