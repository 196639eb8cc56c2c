"""What is watched while training, and what follows: the choice, the figures, collapse, what is kept."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.cohort import split
from medssl.config import DecodeConfig, WatchConfig
from medssl.errors import NothingUsableError, NumericalStopError, RefusedError, UsageError
from medssl.models.embed import embed
from medssl.models.encoder import Encoder
from medssl.stats import probes, representation
from medssl.store import Store, open_store
from medssl.train import collapse, keeping, panel, watch

SIZE, WIDTH = 32, 24
MEAN, STD = 0.4, 0.2


@pytest.fixture
def world(cohort_copy):
    """A store, its folder, what pretraining may see, and the split."""
    store = open_store(cohort_copy, DecodeConfig(size=SIZE))
    place = split.read(cohort_copy)
    owner = store.column("patient_id").astype(str)
    rows = np.flatnonzero([place[p] in {"train", "unlabelled"} for p in owner])
    return store, cohort_copy, rows, place


def choose(world, seed=0, **settings):
    store, data, rows, place = world
    return panel.choose(store, data, rows, place, WatchConfig(**settings), seed)


def label(world, value_of, column="answer"):
    """Give every picture the value that its patient is named by; None leaves it out."""
    _, data, _, _ = world
    manifest = manifest_room.read(data)
    found = {}
    for image, patient in zip(
        manifest.column("image_id"), manifest.column("patient_id"), strict=True
    ):
        value = value_of(patient)
        if value is not None:
            found[image, label_room.WHOLE] = {column: value}
    label_room.write(data, found)


def dealt(world, classes=2):
    """A label that gives every split all classes in turn."""
    place = world[3]
    order = sorted(place, key=lambda p: (place[p], p))
    return {p: f"class {k % classes}" for k, p in enumerate(order)}


def small_encoder(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(SIZE * SIZE, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.5)
        )
    return Encoder(net, WIDTH, 2)


# Choice


def test_whole_patients_within_the_budget_and_the_same_each_time(world):
    store, _, rows, place = world
    owner = store.column("patient_id").astype(str)
    found = choose(world, pictures=16)
    assert 2 <= len(found.rows) <= 16
    assert set(found.rows) <= set(rows)
    for patient in set(found.patient):
        assert np.isin(np.flatnonzero(owner == patient), found.rows).all()
    np.testing.assert_array_equal(found.rows, choose(world, pictures=16).rows)
    assert set(found.rows) != set(choose(world, seed=1, pictures=16).rows)
    assert len(choose(world).rows) == len(rows)
    assert found.labelled is None
    assert {place[p] for p in found.patient} <= {"train", "unlabelled"}


def test_validation_is_asked_and_test_never_read(world):
    store, _, _, place = world
    owner = store.column("patient_id").astype(str)
    named = dealt(world)
    label(world, named.get)
    got = choose(world, target="answer").labelled
    assert got.validation
    assert {place[p] for p in got.patient[got.asked]} == {"val"}
    assert {place[p] for p in got.patient[got.fold == panel.BANK]} == {"train"}
    assert got.classes == ("class 0", "class 1")
    assert [got.classes[c] for c in got.codes] == [named[p] for p in owner[got.rows]]
    few = choose(world, target="answer", pictures=30)
    assert few.labelled.validation
    assert len(set(few.rows) | set(few.labelled.rows)) <= 30
    assert len(few.labelled.asked) <= 15


def test_labelled_patients_come_first(world):
    """Six patients whom the draw would ask last, labelled, are all there."""
    store, _, rows, place = world
    owner = store.column("patient_id").astype(str)
    pictures = {p: np.sum(owner == p) for p in owner[rows] if place[p] == "train"}
    order = sorted(pictures, key=lambda p: split.rank(0, "watch", p))
    last = [p for p in order if pictures[p] == 1][-6:]
    label(world, lambda p: f"class {last.index(p) % 2}" if p in last else None)
    found = choose(world, target="answer", pictures=16)
    assert set(last) < set(found.patient)
    assert set(found.labelled.patient) == set(last)


def test_without_validation_the_probes_use_folds_of_patients(world):
    store, data, rows, place = world
    label(world, dealt(world, 3).get)
    every = np.arange(len(store))
    found = panel.choose(store, data, every, None, WatchConfig(target="answer"), 0)
    got = found.labelled
    assert not got.validation
    assert "there is no split" in found.notes[0]
    assert set(got.fold) == set(range(panel.FOLDS))
    for patient in set(got.patient):
        assert len(set(got.fold[got.patient == patient])) == 1
    for k in range(3):
        assert len(set(got.fold[got.codes == k])) == panel.FOLDS
    label(world, lambda p: dealt(world).get(p) if place[p] != "val" else None)
    found = choose(world, target="answer")
    assert not found.labelled.validation
    assert "too few" in found.notes[0]
    assert set(found.labelled.rows) <= set(rows)


def test_what_cannot_be_measured_is_told_before_training(world):
    store, data, rows, place = world
    with pytest.raises(NothingUsableError, match="no label 'absent'"):
        choose(world, target="absent")
    label(world, lambda _: "same")
    with pytest.raises(NothingUsableError, match="two values with 3 labelled"):
        choose(world, target="answer")
    label(world, lambda p: p)
    settings = {"target": "answer"}
    with pytest.raises((UsageError, NothingUsableError), match="answer"):
        choose(world, **settings)
    named = dealt(world)
    rare = {p: "rare" if k == 0 else v for k, (p, v) in enumerate(sorted(named.items()))}
    label(world, rare.get)
    found = choose(world, target="answer")
    assert found.labelled.classes == ("class 0", "class 1")
    owner = store.column("patient_id").astype(str)
    with pytest.raises(RefusedError, match="not training"):
        panel.choose(store, data, np.arange(len(store)), place, WatchConfig(), 0)
    one = rows[owner[rows] == owner[rows[0]]]
    with pytest.raises(UsageError, match="two whole patients"):
        panel.choose(store, data, one, place, WatchConfig(), 0)
    single = np.array([np.flatnonzero(owner == p)[0] for p in sorted(set(owner[rows]))])
    with pytest.raises(UsageError, match="keep=retrieval"):
        panel.choose(store, data, single, place, WatchConfig(keep="retrieval"), 0)


def test_more_values_than_classes(world, monkeypatch):
    label(world, dealt(world, 3).get)
    monkeypatch.setattr(panel, "MAX_CLASSES", 2)
    with pytest.raises(UsageError, match="3 values"):
        choose(world, target="answer")


# Figures


def test_figures_equal_those_of_the_features(world):
    """Every figure again from the features, the split and the labels, without the panel."""
    store, _, rows, place = world
    named = dealt(world)
    label(world, named.get)
    encoder = small_encoder()
    found = watch.measure(encoder, store, choose(world, target="answer"), MEAN, STD)
    owner = store.column("patient_id").astype(str)
    features = embed(small_encoder(), store, np.arange(len(store)), MEAN, STD)
    of = found.figures
    assert of["effective_rank"] == pytest.approx(representation.effective_rank(features[rows]))
    assert of["uniformity"] == pytest.approx(representation.uniformity(features[rows]))
    assert of["alignment"] == pytest.approx(representation.alignment(features[rows], owner[rows]))
    assert of["feature_std"] == pytest.approx(representation.spread(features[rows]))
    unit = features[rows] / np.linalg.norm(features[rows], axis=1, keepdims=True)
    near = unit @ unit.T - 9 * np.eye(len(rows))
    hit = owner[rows][near.argmax(1)] == owner[rows]
    several = [np.sum(owner[rows] == p) > 1 for p in owner[rows]]
    assert of["retrieval"] == pytest.approx(hit[several].mean())
    truth = np.array([named[p] == "class 1" for p in owner])
    train = rows[[place[p] == "train" for p in owner[rows]]]
    val = np.flatnonzero([place[p] == "val" for p in owner])
    scale = StandardScaler().fit(features[train])
    aurocs = []
    for penalty in probes.PENALTIES:
        model = Ridge(alpha=penalty * len(train), solver="svd")
        model.fit(scale.transform(features[train]), truth[train])
        aurocs.append(roc_auc_score(truth[val], model.predict(scale.transform(features[val]))))
    assert min(abs(a - of["ridge"]) for a in aurocs) < 1e-9
    shares = probes.knn_scores(features[train], truth[train].astype(int), 2, features[val])
    assert of["knn"] == pytest.approx(roc_auc_score(truth[val], shares[:, 1]))
    assert {"ridge_se", "knn_se", "retrieval_chance"} <= set(of)
    assert all(isinstance(v, float) for v in of.values())
    fewer = watch.measure(encoder, store, choose(world, pictures=16), MEAN, STD).figures
    assert fewer["effective_rank"] != of["effective_rank"]
    assert "ridge" not in fewer


def test_a_readable_label_is_read_and_folds_hide_the_patient(world):
    """Patients are recognisable and labels random: probes that saw a patient would know him."""
    store, data, _, _ = world
    owner = store.column("patient_id").astype(str)
    names = sorted(set(owner))
    noise = 0.1 * np.random.default_rng(1).normal(size=(len(owner), len(names)))
    lots = []
    for seed in range(8):
        lottery = np.random.default_rng(seed).permutation(len(names)) % 2
        label(world, dict(zip(names, [f"class {k}" for k in lottery], strict=True)).get)
        every = np.arange(len(store))
        got = panel.choose(store, data, every, None, WatchConfig(target="answer"), 0).labelled
        who = (owner[got.rows][:, None] == np.array(names)) + noise
        lots.append(watch._judged(watch._probes(who.astype(np.float32), got), got))
    assert np.mean([found["ridge"] for found in lots]) < 0.65
    assert np.mean([found["knn"] for found in lots]) < 0.65
    said = (got.codes[:, None] + noise).astype(np.float32)
    judged = watch._judged(watch._probes(said, got), got)
    assert judged["ridge"] > 0.9
    assert judged["knn"] > 0.85  # patients, and so folds, are drawn anew with every session's key


def test_sites_and_else_manufacturers_are_told_apart(world, monkeypatch):
    store, data, _, _ = world
    monkeypatch.setattr(panel, "LEVEL_PATIENTS", 3)
    monkeypatch.setattr(watch, "LEVEL_PATIENTS", 3)
    encoder = small_encoder()
    alone = choose(world)
    manifest = manifest_room.read(data)
    maker = dict(zip(manifest.column("image_id"), manifest.column("manufacturer"), strict=True))
    made = [maker[image] for image in store.column("image_id")[alone.rows]]
    people = {m: len(set(alone.patient[[x == m for x in made]])) for m in set(made)}
    assert sorted(people.values())[-2] >= 3
    assert alone.attribute == "manufacturer"
    assert alone.level.tolist() == made
    half = {p: f"site {k % 2}" for k, p in enumerate(sorted(set(alone.patient)))}
    level = np.array([half[p] for p in alone.patient])
    real = Store.column

    def column(self, name):
        if name != "site":
            return real(self, name)
        return np.array([half.get(p, "site 0") for p in real(self, "patient_id")], object)

    monkeypatch.setattr(Store, "column", column)
    two = choose(world)
    assert two.attribute == "site"
    np.testing.assert_array_equal(two.level, level)
    figures = watch.measure(encoder, store, two, MEAN, STD).figures
    assert 0 <= figures["site_auroc"] <= 1
    one = replace(two, level=np.where(level == "site 0", "", level))
    assert "site_auroc" not in watch.measure(encoder, store, one, MEAN, STD).figures


def test_measuring_leaves_no_trace(world):
    store = world[0]
    encoder = small_encoder().train()
    encoder.net[2].eval()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first = watch.measure(encoder, store, choose(world), MEAN, STD)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert encoder.training
    assert encoder.net[3].training
    assert not encoder.net[2].training
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert all(p.requires_grad and not p.is_inference() for p in encoder.parameters())
    encoder(torch.zeros(2, 1, SIZE, SIZE)).sum().backward()
    again = watch.measure(encoder, store, choose(world), MEAN, STD)
    assert first.figures == again.figures


def test_features_that_are_not_numbers_stop_the_run(world):
    encoder = small_encoder()
    encoder.net[2].running_var.fill_(-1.0)
    with pytest.raises(NumericalStopError, match="not numbers"):
        watch.measure(encoder, world[0], choose(world), MEAN, STD)


# Collapse


def run(total, unwell, width=16, length=0, begin=1):
    """Feed steps; those that ``unwell`` names are collapsed. Return what was told, by step."""
    streak = collapse.Streak(total, length)
    told = {}
    for step in range(begin, total + 1):
        spread = 0.1 if step in unwell else 1.0
        found = streak.feed(step, 3.4, 3.434, spread / width**0.5, width)
        if found is not None:
            told[step] = found
            if found.level == "stop":
                break
    return told


@pytest.mark.parametrize(
    ("total", "warn", "stop"), [(60, 10, 20), (200, 10, 40), (1000, 20, 200), (9000, 50, 500)]
)
def test_windows_follow_the_length_of_the_run(total, warn, stop):
    told = run(total, range(11, total + 1))
    assert {k: v.level for k, v in told.items()} == {10 + warn: "warn", 10 + stop: "stop"}
    assert {v.since for v in told.values()} == {11}
    assert (
        f"Step {10 + stop}: the representation has collapsed. Since step 11"
        in told[10 + stop].words
    )
    assert f"stops at step {10 + stop}" in told[10 + warn].words


def test_the_end_of_a_run_does_not_hide_a_collapse():
    assert {k: v.level for k, v in run(200, range(185, 201)).items()} == {194: "warn", 200: "stop"}
    assert run(200, range(195, 201)) == {}


def test_a_streak_goes_on_after_a_resume():
    assert run(200, range(1, 201), length=30, begin=31)[40].since == 1


def test_one_well_step_does_not_hide_a_collapse_and_one_unwell_is_none():
    assert max(run(200, set(range(11, 201)) - set(range(20, 200, 20)))) < 80
    assert run(200, range(10, 201, 3)) == {}


@pytest.mark.parametrize(("loss", "spread"), [(3.434, 1.0), (3.434, 0.9), (2.0, 0.05), (4.2, 0.95)])
def test_neither_the_loss_nor_the_spread_alone_is_a_collapse(loss, spread):
    streak = collapse.Streak(200)
    assert all(streak.feed(k, loss, 3.434, spread / 4, 16) is None for k in range(1, 201))
    assert streak.length == 0


def test_width_sets_what_is_healthy():
    assert collapse.Streak(200).feed(1, 3.4, 3.434, 0.0884, 128) is None
    streak = collapse.Streak(200)
    streak.feed(1, 3.4, 3.434, 0.0884, 16)
    assert streak.length == 1


def test_few_directions_left_are_a_collapse():
    start = {"effective_rank": 50.0}
    assert collapse.measured(start, {"effective_rank": 10.5}, 40, 80) is None
    found = collapse.measured(start, {"effective_rank": 9.5}, 40, 80)
    assert (found.level, found.since) == ("stop", 41)
    assert "9.5 directions (effective rank), 50.0 before" in found.words
    low = {"effective_rank": 3.0}
    assert collapse.measured(low, {"effective_rank": 2.1}, 0, 5) is None
    assert collapse.measured(low, {"effective_rank": 1.4}, 0, 5) is not None


# What is kept


@pytest.mark.parametrize("keep", ["ridge", "knn", "effective_rank", "retrieval", "uniformity"])
def test_keep_takes_the_better_by_its_own_figure(keep):
    names = ("ridge", "knn", "effective_rank", "retrieval", "uniformity")
    low, high = dict.fromkeys(names, 0.2), dict.fromkeys(names, 0.2)
    high[keep] += -0.1 if keep == "uniformity" else 0.1
    assert keeping.better(keep, high, low)
    assert not keeping.better(keep, low, high)
    assert not keeping.better(keep, low, low)
    assert keeping.better(keep, low, None)
    assert keeping.better("last", low, high)
    assert not keeping.better(keep, {}, low)


def measurement(rank, scores):
    figures = {"effective_rank": rank}
    labels = np.repeat([0, 1], 20)
    for name, of in scores.items():
        figures[name] = float(roc_auc_score(labels, of[:, 1]))
    return watch.Measurement(figures, scores)


def guarded(labelled=True):
    rows = np.arange(40)
    named = rows.astype(str)
    known = panel.Labelled(("a", "b"), rows, np.repeat([0, 1], 20), named, np.zeros(40, int), True)
    return panel.Panel(rows, named, None, np.full(40, ""), known if labelled else None, ())


def noisy(shift, seed=0):
    g = np.random.default_rng(seed)
    score = np.repeat([0, shift], 20) + g.normal(size=40)
    return np.column_stack([-score, score])


def test_the_guard_keeps_rolls_back_and_says_why():
    good, bad = noisy(1.5), noisy(0.2)
    start = measurement(40.0, {"ridge": good, "knn": good})
    kept = keeping.guard(guarded(), start, measurement(36.5, {"ridge": good, "knn": good}))
    assert kept.keep
    assert "effective rank 40.0 to 36.5" in kept.words
    lost = keeping.guard(guarded(), start, measurement(60.0, {"ridge": good, "knn": bad}))
    assert not lost.keep
    assert "the knn probe lost more than its standard error:" in lost.words
    flat = keeping.guard(guarded(), start, measurement(35.5, {"ridge": good, "knn": good}))
    assert not flat.keep
    assert "effective rank fell below 90%" in flat.words
    better = keeping.guard(guarded(), measurement(40.0, {"ridge": bad, "knn": bad}), start)
    assert better.keep


def test_the_guard_forgives_what_chance_explains():
    """A little noise added to the scores of a good encoder: less than its own error."""
    good = noisy(1.5)
    start = measurement(40.0, {"ridge": good})
    again = measurement(40.0, {"ridge": good + 0.02 * noisy(0.0, 3)})
    change, error = keeping._change(guarded().labelled, start, again, "ridge")
    assert abs(change) <= error or change > 0
    assert keeping.guard(guarded(), start, again).keep


def test_without_labels_the_guard_says_that_the_rank_decided():
    words = keeping.guard(guarded(labelled=False), measurement(9.0, {}), measurement(9.0, {})).words
    assert "the effective rank alone decided" in words
