"""Which pictures a training is watched on: chosen once before it, the same ones each time."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.cohort.split import UNLABELLED, rank
from medssl.config import WatchConfig
from medssl.errors import NothingUsableError, RefusedError, UsageError
from medssl.store import Store

IntArray = npt.NDArray[np.int64]
TextArray = npt.NDArray[Any]
FOLDS = 5
LEAST_PATIENTS = 3
"""Patients a class needs on either side; below it an AUROC is an anecdote."""
FEW_PATIENTS = 10
MAX_CLASSES = 20
LEVEL_PATIENTS = 10
"""Patients that two sites (or manufacturers) need each to be told apart."""
BANK = -1


@dataclass(frozen=True)
class Labelled:
    """Pictures with a known class, for the probes.

    Attributes:
        classes: values in order.
        rows: store rows, int64 ``[m]``.
        codes: class code of each ``[m]``.
        patient: pseudonym of each ``[m]``.
        fold: -1 for pictures that are only learnt from; those of fold k >= 0 are asked by probes
            that learn from all others ``[m]``. A patient is in one fold.
        validation: whether the split's validation patients are asked, or training patients by folds.
    """

    classes: tuple[str, ...]
    rows: IntArray
    codes: IntArray
    patient: TextArray
    fold: IntArray
    validation: bool

    @property
    def asked(self) -> IntArray:
        """Return the places that probes are asked about."""
        return np.flatnonzero(self.fold != BANK)


@dataclass(frozen=True)
class Panel:
    """What every measurement of one training looks at.

    Attributes:
        rows: store rows of whole patients that pretraining may see, int64 ``[n]``.
        patient: pseudonym of each ``[n]``.
        attribute: ``site`` or ``manufacturer``, where at least two have enough patients.
        level: its value per picture, empty where unknown ``[n]``.
        labelled: the pictures of the probes; None without a target.
        notes: sentences on what cannot be measured, or with little behind it.
    """

    rows: IntArray
    patient: TextArray
    attribute: str | None
    level: TextArray
    labelled: Labelled | None
    notes: tuple[str, ...]


def choose(
    store: Store,
    data: Path,
    rows: IntArray,
    place: Mapping[str, str] | None,
    config: WatchConfig,
    seed: int,
) -> Panel:
    """Choose whole patients, a function of the seed and the pseudonyms alone.

    At most ``config.pictures`` pictures in all. With a target, up to half of them are validation
    patients with a label, and up to half of the rest are labelled patients before all others.

    Args:
        store: the decoded pictures.
        data: the cohort's folder, for labels and manufacturers.
        rows: store rows that pretraining may see.
        place: the split of every patient; None without one, then the probes use folds of the patients.
        config: how many pictures, which target.
        seed: of the choice.

    Raises:
        NothingUsableError: no such label, or too few patients with it.
        UsageError: the pictures hold fewer than two patients, the target is no class, or what should
            choose the encoder (``keep``) cannot be measured.
        RefusedError: a row of a validation or test patient among those to pretrain on.
    """
    owner = store.column("patient_id").astype(str)
    _check_places(owner[rows], place)
    known = _known(store, data, config.target, rows)
    held = np.flatnonzero([place.get(p) == "val" for p in owner]) if place is not None else None
    asked = _known(store, data, config.target, held) if held is not None else {}
    queries = _sample(_by_patient(owner, list(asked)), seed, config.pictures // 2)
    several = [v for v, n in _patients(asked, owner, queries).items() if n >= LEAST_PATIENTS]
    if len(several) < 2:
        queries = np.empty(0, np.int64)
    own = _own(owner, rows, known, seed, config.pictures - len(queries))
    labelled, notes = None, []
    if config.target is not None:
        store.verify(queries)
        bank = np.array([r for r in own.tolist() if r in known], np.int64)
        labelled = _labelled(config.target, owner, {**known, **asked}, bank, queries, data, seed)
        notes = _remarks(config.target, labelled, {**known, **asked}, place)
    attribute, level = _attribute(store, data, own, owner)
    if attribute is None:
        notes.append(
            f"Site predictability is not measured: it needs two sites or manufacturers with "
            f"{LEVEL_PATIENTS} patients each."
        )
    panel = Panel(own, owner[own], attribute, level, labelled, tuple(notes))
    _check_keep(panel, config)
    return panel


def _check_places(patients: TextArray, place: Mapping[str, str] | None) -> None:
    """Raise RefusedError if a patient of another split is among those to pretrain on."""
    wrong = sorted({p for p in patients if place and place.get(p) not in {"train", UNLABELLED}})
    if wrong:
        words = (
            f"{len(wrong)} patients to pretrain on are not training or unlabelled patients of the "
            f"split ({wrong[0]} first). Make a new split, or pass the rows of this one."
        )
        raise RefusedError(words, "E-LEAK")


def _known(store: Store, data: Path, target: str | None, rows: IntArray) -> dict[int, str]:
    """Return the known label of store rows; rows without one are absent."""
    if target is None:
        return {}
    labels = label_room.read(data, target)
    images, slices = store.column("image_id")[rows], store.column("slice")[rows]
    items = zip(rows.tolist(), images, slices, strict=True)
    values = ((row, label_room.lookup(labels, str(i), int(s))) for row, i, s in items)
    return {row: value for row, value in values if value is not None}


def _by_patient(owner: TextArray, rows: list[int]) -> dict[str, list[int]]:
    out: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        out[owner[row]].append(row)
    return out


def _patients(known: dict[int, str], owner: TextArray, rows: IntArray) -> Counter[str]:
    """Return how many patients have each value, commonest first."""
    return Counter(v for _, v in {(owner[r], known[r]) for r in rows.tolist()})


def _sample(groups: dict[str, list[int]], seed: int, most: int) -> IntArray:
    """Return the rows of whole patients, as many as fit, sorted."""
    chosen: list[int] = []
    for patient in sorted(groups, key=lambda p: rank(seed, "watch", p)):
        if len(chosen) + len(groups[patient]) <= most:
            chosen += groups[patient]
    return np.array(sorted(chosen), np.int64)


def _own(owner: TextArray, rows: IntArray, known: dict[int, str], seed: int, most: int) -> IntArray:
    """Return rows to pretrain on: of labelled patients up to half, then of any."""
    groups = _by_patient(owner, rows.tolist())
    named = {owner[row] for row in known}
    first = _sample({p: g for p, g in groups.items() if p in named}, seed, most // 2)
    taken = set(owner[first].tolist())
    rest = _sample({p: g for p, g in groups.items() if p not in taken}, seed, most - len(first))
    own = np.sort(np.concatenate([first, rest]))
    if len(set(owner[own].tolist())) < 2:
        needed = sum(sorted(map(len, groups.values()))[:2])
        words = (
            f"watch.pictures leaves room for {most} pictures to pretrain on, and that is fewer than two "
            f"whole patients; the two smallest have {needed}. Set watch.pictures={4 * needed} or more, "
            "or watch.every=0."
        )
        raise UsageError(words, "E-WATCH")
    return own


def _labelled(
    target: str,
    owner: TextArray,
    known: dict[int, str],
    bank: IntArray,
    queries: IntArray,
    data: Path,
    seed: int,
) -> Labelled:
    """Return the pictures of the probes, of all classes with enough patients.

    Raises:
        NothingUsableError: fewer than two such classes.
        UsageError: the values are no classes.
    """
    counts = _patients(known, owner, bank)
    if len(counts) > MAX_CLASSES:
        words = (
            f"watch.target={target}: {len(counts)} values; a class label has at most {MAX_CLASSES}."
        )
        raise UsageError(words, "E-NOTACLASS")
    several = {v for v, n in counts.items() if n >= LEAST_PATIENTS}
    if len(queries):
        there = _patients(known, owner, queries)
        several = {v for v in several if there[v] >= LEAST_PATIENTS}
    if len(several) < 2:
        listed = ", ".join(f"{v!r} {n}" for v, n in counts.most_common()) or "none"
        words = (
            f"{data}: watch.target={target} needs two values with {LEAST_PATIENTS} labelled training "
            f"patients each among the pictures that are watched; there are {listed}. Raise "
            "watch.pictures, label more patients, or leave watch.target out."
        )
        raise NothingUsableError(words, "E-FEWLABELS")
    classes = tuple(sorted(several))
    rows = np.array([r for r in (*bank, *queries) if known[r] in several], np.int64)
    codes = np.array([classes.index(known[r]) for r in rows.tolist()], np.int64)
    patient = owner[rows]
    fold = np.where(np.isin(rows, queries), 0, BANK)
    if not len(queries):
        fold = _folds(patient, codes, seed)
    return Labelled(classes, rows, codes, patient, fold, bool(len(queries)))


def _folds(patient: TextArray, codes: IntArray, seed: int) -> IntArray:
    """Deal patients to folds class by class, each under the rarest class that he has."""
    frequency = Counter(codes.tolist())
    rarest: dict[str, int] = {}
    for who, code in zip(patient.tolist(), codes.tolist(), strict=True):
        best = rarest.setdefault(who, code)
        rarest[who] = min(best, code, key=lambda c: (frequency[c], c))
    order = sorted(rarest, key=lambda p: (rarest[p], rank(seed, "fold", p)))
    of = {p: k % FOLDS for k, p in enumerate(order)}
    return np.array([of[p] for p in patient.tolist()], np.int64)


def _remarks(
    target: str, labelled: Labelled, known: dict[int, str], place: Mapping[str, str] | None
) -> list[str]:
    """Return sentences on what is behind the probes."""
    notes = []
    if not labelled.validation:
        few = "too few labelled validation patients are among the pictures that are watched"
        why = "there is no split" if place is None else few
        notes.append(
            f"The probes of {target} ask training patients by {FOLDS} folds of patients, as {why}."
        )
    left = sorted(set(known.values()) - set(labelled.classes))
    if left:
        notes.append(f"The probes leave out {target} = {', '.join(left)}: too few patients.")
    codes, who = labelled.codes[labelled.asked], labelled.patient[labelled.asked]
    fewest = min(len(set(who[codes == k].tolist())) for k in range(len(labelled.classes)))
    if fewest < FEW_PATIENTS:
        notes.append(
            f"Only {fewest} patients of one {target} are asked: the probes' figures are coarse."
        )
    return notes


def _attribute(
    store: Store, data: Path, rows: IntArray, owner: TextArray
) -> tuple[str | None, TextArray]:
    """Return what may be told apart, and its value per row: the site, else the manufacturer."""
    site = store.column("site")[rows]
    manifest = manifest_room.read(data)
    maker = dict(zip(manifest.column("image_id"), manifest.column("manufacturer"), strict=True))
    made = np.array([maker.get(i) for i in store.column("image_id")[rows]], object)
    for name, values in (("site", site), ("manufacturer", made)):
        level = np.array(["" if v is None else str(v) for v in values])
        people = Counter(v for _, v in set(zip(owner[rows], level.tolist(), strict=True)) if v)
        if sum(n >= LEVEL_PATIENTS for n in people.values()) > 1:
            return name, level
    return None, np.full(len(rows), "")


def _check_keep(panel: Panel, config: WatchConfig) -> None:
    """Raise UsageError if what should choose the encoder cannot be measured."""
    if config.keep == "retrieval" and len(set(panel.patient.tolist())) == len(panel.rows):
        words = (
            "watch.keep=retrieval needs patients with two pictures, and no watched patient has two. "
            "Set watch.keep=uniformity, or =last."
        )
        raise UsageError(words, "E-WATCH")
