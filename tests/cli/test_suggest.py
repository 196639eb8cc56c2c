"""Which patients to label next: the choice against another path, and the command."""

import csv
import shutil
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from medssl import suggest
from medssl.cli import main
from medssl.cohort import split as split_room
from medssl.stats.bootstrap import Patients
from medssl.stats.typical import typical


@pytest.fixture(scope="module")
def half(cohorts, tmp_path_factory):
    """Hospital A, where every second labelled picture lost its label, whole patients at a time."""
    place = tmp_path_factory.mktemp("half") / "a"
    shutil.copytree(cohorts / "hospital_a", place)
    table = pq.read_table(place / "labels.parquet")
    owner = dict(zip(*(pq.read_table(place / "manifest.parquet").column(c).to_pylist()
                       for c in ("image_id", "patient_id")), strict=True))  # fmt: skip
    people = sorted(set(owner.values()))
    gone = set(people[::2])
    keep = [owner[i] not in gone for i in table.column("image_id").to_pylist()]
    pq.write_table(table.filter(pa.array(keep)), place / "labels.parquet")
    return place, gone


def named(file):
    with file.open() as text:
        return list(csv.DictReader(text))


def test_the_command(half, classifier_run, tmp_path, capsys):
    place, gone = half
    out = tmp_path / "next.csv"
    words = ["suggest", str(classifier_run), "--data", str(place), "--patients", "5"]
    assert main([*words, "--out", str(out)]) == 0
    found = named(out)
    assert [r["rank"] for r in found] == ["1", "2", "3", "4", "5"]
    patients = {r["patient_id"] for r in found}
    split = split_room.read(place)
    assert len(patients) == 5
    assert patients <= gone
    assert {split[p] for p in patients} == {"train"}  # never those who judge
    assert all(0 < float(r["unsure"]) <= 0.5 for r in found)
    assert main([*words, "--out", str(out)]) == 4
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.count("\n") == 6
    assert main([*words, "--target", "kind"]) == 2
    assert "answers finding" in capsys.readouterr().err


def test_the_classifier_is_asked_once_labels_are_many(half, classifier_run, monkeypatch):
    place, gone = half
    few = suggest.suggest(classifier_run, place, 4)
    monkeypatch.setattr(suggest, "FEW", 2)
    more = suggest.suggest(classifier_run, place, 4)
    assert [s.patient for s in few] != [s.patient for s in more]
    assert {s.patient for s in more} <= gone


def test_typical_patients_of_groups_without_a_label():
    """Four clouds, one of them known: the middles of the others come first, the largest before all."""
    rng = np.random.default_rng(0)
    middle = 10 * np.eye(4, 6)
    sizes = (40, 30, 20, 10)
    points = np.concatenate(
        [m + rng.normal(size=(n, 6)) for m, n in zip(middle, sizes, strict=True)]
    )
    owner = np.repeat(np.arange(4), sizes)
    known = np.zeros(100, bool)
    known[np.flatnonzero(owner == 1)[0]] = True
    chosen = typical(points, known, 3, 0)
    assert owner[chosen].tolist() == [0, 2, 3]
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    for k, group in zip(chosen, (0, 2, 3), strict=True):
        own = np.flatnonzero(owner == group)
        dense = []
        for i in own:
            near = sorted(np.linalg.norm(unit[i] - unit[j]) for j in own if j != i)
            dense.append(1 / np.mean(near[: min(20, len(own) - 1)]))
        assert k == own[int(np.argmax(dense))]
    every = typical(points, known, 500, 0)
    assert sorted(every) == [k for k in range(100) if not known[k]]


def test_before_any_label(half, simclr_run, tmp_path, capsys):
    place, _ = half
    words = ["suggest", str(simclr_run), "--data", str(place), "--patients", "999"]
    assert main(words) == 2
    assert "--target is required" in capsys.readouterr().err
    assert main([*words, "--target", "something_new", "--out", str(tmp_path / "x.csv")]) == 0
    split = split_room.read(place)
    assert {r["patient_id"] for r in named(tmp_path / "x.csv")} == {
        p for p, s in split.items() if s == "train"
    }
    assert {r["unsure"] for r in named(tmp_path / "x.csv")} == {""}


def test_nobody_left(cohorts, classifier_run, capsys):
    data = str(cohorts / "hospital_a")
    assert main(["suggest", str(classifier_run), "--data", data]) == 3
    assert "every training patient" in capsys.readouterr().err


def test_a_picture_stands_for_its_gradient():
    rng = np.random.default_rng(0)
    x, logits = rng.normal(size=(9, 4)), rng.normal(size=(9, 3))
    patient = np.array(list("aabbbcdde"))
    chance = torch.softmax(torch.from_numpy(logits), 1)
    wanted = []
    for name in dict.fromkeys(patient):
        best = None
        for k in np.flatnonzero(patient == name):
            weight = torch.zeros(3, 4, dtype=torch.double, requires_grad=True)
            own = torch.from_numpy(logits[k]) + weight @ torch.from_numpy(x[k])
            torch.nn.functional.cross_entropy(own[None], chance[k].argmax()[None]).backward()
            if best is None or weight.grad.norm() > best.norm():
                best = weight.grad
        wanted.append(best.flatten().numpy())
    got = suggest._gradients(x, chance.numpy(), Patients.of(patient))
    np.testing.assert_allclose(got, np.stack(wanted), atol=1e-12)


def test_each_next_is_drawn_by_its_distance():
    points = np.array([[4.0, 0.0], [0.0, 0.0], [0.0, 1.0], [3.0, 0.0], [4.0, 0.0]])
    drawn = Counter(suggest.spread(points, 2, seed)[1] for seed in range(3000))
    square = ((points - points[0]) ** 2).sum(1)
    assert drawn[4] == 0  # where one was chosen nobody is
    for k in (1, 2, 3):
        assert drawn[k] / 3000 == pytest.approx(square[k] / square.sum(), abs=0.03)
    assert sorted(suggest.spread(points, 5, 0)) == [0, 1, 2, 3, 4]
    assert {suggest.spread(points, 3, s)[0] for s in range(5)} == {0}
