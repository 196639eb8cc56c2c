"""The list of cases of an evaluation: every column by an independent path."""

from dataclasses import replace

import hospitals
import numpy as np
import pytest

from medssl.config import EvaluateConfig
from medssl.evaluate import cases
from medssl.evaluate.calibrated import of_class

QUICK = EvaluateConfig(resamples=100, permutations=99, cv_repeats=1, pdf=False)


def table_of(question, source, here, config=QUICK):
    answers = here.answers(question)
    both = [k for k in answers.shown if {0, 1} <= set(answers.outcome[:, k].tolist())]
    classes = [of_class(answers, k, config) for k in both]
    return cases.table(question, source, here, answers, classes, config), classes


@pytest.fixture(scope="module")
def made():
    question, source, here = hospitals.question(), hospitals.source(), hospitals.target()
    return question, source, here, *table_of(question, source, here)


def test_one_row_per_prediction_in_order(made):
    _, _, here, table, _ = made
    for name in ("image_id", "slice"):
        assert table.column(name).to_pylist() == here.predictions.column(name).to_pylist()


def test_unlike_is_the_rank_among_the_sources_own_distances(made):
    """By plain loops: mean cosine distance to the five nearest rows of other patients."""
    _, source, here, table, _ = made
    theirs = source.embeddings / np.linalg.norm(source.embeddings, axis=1, keepdims=True)
    mine = here.embeddings / np.linalg.norm(here.embeddings, axis=1, keepdims=True)

    def distance(row, others):
        return np.sort(1 - others @ row)[:5].mean()

    yard = np.array([
        distance(row, theirs[source.embedded_patient != who])
        for row, who in zip(theirs, source.embedded_patient, strict=True)
    ])  # fmt: skip
    for k in (0, 7, 33):
        far = distance(mine[k], theirs)
        rank = 100 * ((yard < far).mean() + (yard == far).mean() / 2)
        assert table.column("unlike")[k].as_py() == pytest.approx(rank, abs=1e-6)


def test_sets_hold_what_the_limits_allow(made):
    question, source, here, table, _ = made
    held = source.validation
    scores = here.scores(question)
    for k, name in enumerate(question.classes):
        told = np.array(table.column(f"may_{name}").to_pylist())
        # One row per patient is drawn for the limits: whoever is surer than every calibrating one is in.
        worst = (1 - held.scores[held.codes == k, k]).max()
        assert told[1 - scores[:, k] < 1e-9].all()
        assert not told[1 - scores[:, k] > worst].any()


def test_chance_is_read_off_the_curve(made):
    question, _, here, table, classes = made
    curve = classes[0]["bands"]["curve"]
    scores = here.scores(question)[:, 1]
    for k in (0, 5, 60):
        for column, source in (
            ("chance_1", "observed"),
            ("lower_1", "lower"),
            ("upper_1", "upper"),
        ):
            at = np.searchsorted(curve["p"], scores[k], side="right") - 1
            at = min(max(at, 0), len(curve["p"]) - 2)
            left, right = curve["p"][at], curve["p"][at + 1]
            share = (scores[k] - left) / (right - left)
            expected = curve[source][at] + share * (curve[source][at + 1] - curve[source][at])
            assert table.column(column)[k].as_py() == pytest.approx(np.clip(expected, 0, 1))
    assert set(table.column("checked_1").to_pylist()) == {"here"}
    assert "chance_0" not in table.column_names


def test_without_answers_here_the_sources_curve_stands_in():
    question, source, here = hospitals.question(), hospitals.source(), hospitals.target()
    blind = hospitals.relabel(here, [None] * here.predictions.num_rows)
    table, _ = table_of(question, source, blind)
    assert set(table.column("checked_1").to_pylist()) == {"source"}
    lower, chance, upper = (np.array(table.column(f"{c}_1")) for c in ("lower", "chance", "upper"))
    inside = (lower <= chance + 1e-9) & (chance <= upper + 1e-9)
    assert inside.mean() > 0.95


def test_too_few_patients_draw_no_curve():
    question, source = hospitals.question(), hospitals.source(patients=12)
    here = hospitals.target(patients=12)
    labels = ["1"] * 6 + ["0"] * (here.predictions.num_rows - 6)
    table, _ = table_of(question, replace(source, answers=None), hospitals.relabel(here, labels))
    assert set(table.column("checked_1").to_pylist()) == {""}
    assert table.column("chance_1").null_count == table.num_rows


def test_a_pack_without_pictures_knows_less():
    question, here = hospitals.question(), hospitals.target()
    source = replace(
        hospitals.source(), embeddings=None, embedded_patient=None, validation=None, answers=None
    )
    table, _ = table_of(question, source, here)
    assert table.column("unlike").null_count == table.num_rows
    assert table.column("may_0").null_count == table.num_rows


def test_three_classes():
    question, source = hospitals.question(3), hospitals.source(classes=3)
    table, _ = table_of(question, source, hospitals.target(classes=3))
    for name in "012":
        assert {f"may_{name}", f"chance_{name}", f"checked_{name}"} <= set(table.column_names)
