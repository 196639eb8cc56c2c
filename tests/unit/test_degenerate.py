"""Input that determines nothing: a sentence each, never a number that means nothing."""

import json
from dataclasses import replace

import hospitals
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medssl import runs
from medssl.config import EvaluateConfig
from medssl.errors import MedsslError, RefusedError
from medssl.evaluate import inputs
from medssl.evaluate.evaluate import evaluate

QUICK = EvaluateConfig(resamples=100, permutations=99, cv_repeats=1, pdf=False)


def report_of(here, tmp_path, *, question=None, source=None, config=QUICK):
    asked = question or hospitals.question()
    told = evaluate(asked, source or hospitals.source(), here, config, tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())
    page = (tmp_path / "report.html").read_text()
    assert ": NaN" not in (tmp_path / "report.json").read_text()
    assert ">nan" not in page.lower()
    assert told["verdict"] == found["verdict"]["answer"]
    return found


def rescored(here, values):
    """The same hospital with other chances of the positive class."""
    table = here.predictions
    for name, column in (("score_0", 1 - values), ("score_1", values)):
        table = table.set_column(table.column_names.index(name), name, pa.array(column))
    return replace(here, predictions=table)


def headline(report, metric="auroc"):
    found = ("target", metric, "image")
    rows = report["performance"]
    return next(r for r in rows if (r["cohort"], r["metric"], r["level"]) == found)


def test_no_labels_at_all(tmp_path):
    here = hospitals.target()
    here = hospitals.relabel(here, [None] * len(here.patient))
    report = report_of(here, tmp_path, question=hospitals.question(label_table=False))
    assert report["verdict"]["answer"] == "cannot tell"
    assert "no labels" in report["verdict"]["reasons"][0]
    assert report["shift"]["embedding"]["p"] > 0
    assert not [r for r in report["performance"] if r["cohort"] == "target"]


def test_one_class(tmp_path):
    here = hospitals.target()
    report = report_of(hospitals.relabel(here, ["1"] * len(here.patient)), tmp_path)
    assert report["verdict"]["answer"] == "cannot tell"
    row = headline(report)
    assert (row["value"], row["lower"]) == (None, None)
    assert "Not computable" in row["note"]
    assert report["calibration"] == []


def test_one_patient(tmp_path):
    here = hospitals.target(patients=1, images=6)
    report = report_of(hospitals.relabel(here, ["0", "1"] * 3), tmp_path)
    assert report["verdict"]["answer"] == "cannot tell"
    assert headline(report)["lower"] is None
    assert "1 patients" in report["shift"]["embedding"]["note"]


def test_constant_scores(tmp_path):
    here = hospitals.target()
    report = report_of(rescored(here, np.full(len(here.patient), 0.3)), tmp_path)
    assert report["verdict"]["answer"] in {"do not use here", "cannot tell"}
    slope = headline(report, "calibration_slope")
    assert slope["value"] is None
    assert "Not computable" in slope["note"]


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_scores_at_the_edge(tmp_path, edge):
    here = hospitals.target()
    report_of(rescored(here, np.full(len(here.patient), edge)), tmp_path)


def test_perfect_scores(tmp_path):
    """No interval can be had from patients that never disagree; that is not 'use as is'."""
    here = hospitals.target(patients=140)
    y = np.asarray(here.predictions.column("label").to_pylist()) == "1"
    report = report_of(rescored(here, np.where(y, 0.9, 0.1)), tmp_path)
    assert headline(report)["value"] == 1.0
    assert report["verdict"]["answer"] != "use as is"


def test_labels_the_model_never_saw(tmp_path):
    here = hospitals.target()
    here = hospitals.relabel(here, ["abscess"] * len(here.patient))
    asked = hospitals.question(unknown={"abscess": len(here.patient)})
    report = report_of(here, tmp_path, question=asked)
    assert report["verdict"]["answer"] == "cannot tell"
    assert "abscess" in report["verdict"]["reasons"][0]


def test_embeddings_that_are_no_numbers(tmp_path):
    here = hospitals.target()
    broken = here.embeddings.copy()
    broken[3, 2] = np.nan
    report = report_of(replace(here, embeddings=broken), tmp_path)
    assert "NaN or infinity" in report["shift"]["embedding"]["note"]
    assert headline(report)["value"] is not None


def test_chances_that_are_no_numbers(tmp_path):
    table = hospitals.target().predictions
    values = table.column("score_1").to_numpy().copy()
    values[0] = np.nan
    bad = table.set_column(table.column_names.index("score_1"), "score_1", pa.array(values))
    with pytest.raises(MedsslError, match="not in \\[0, 1\\]"):
        runs.write_predictions(tmp_path / "predictions.parquet", bad)


def test_a_picture_told_twice_is_refused(tmp_path):
    table = hospitals.target().predictions
    pq.write_table(pa.concat_tables([table, table.slice(0, 2)]), tmp_path / "predictions.parquet")
    with pytest.raises(RefusedError, match="2 pictures stand more than once"):
        inputs.read_here(tmp_path, hospitals.question())


@pytest.mark.parametrize("broken", ["pictures", "embeddings"])
def test_rows_of_other_pictures_are_refused(tmp_path, broken):
    """Tables that are not of the same pictures in one order would be paired wrongly in silence."""
    here = hospitals.target(patients=20)
    pictures, rows = here.pictures, here.embeddings
    pq.write_table(here.predictions, tmp_path / "predictions.parquet")
    if broken == "pictures":
        pictures = pictures.take(pa.array(range(pictures.num_rows)[::-1]))
    else:
        rows = rows[:-1]
    pq.write_table(pictures, tmp_path / "pictures.parquet")
    np.save(tmp_path / "embeddings.npy", rows)
    with pytest.raises(RefusedError, match="not of the same pictures"):
        inputs.read_here(tmp_path, hospitals.question())


def test_no_header_says_anything(tmp_path):
    here = hospitals.target()
    names = [n for n in here.pictures.column_names if n == "sex"]
    nothing = pa.array([None] * len(here.patient), pa.string())
    here = replace(here, pictures=here.pictures.set_column(
        here.pictures.column_names.index(names[0]), "sex", nothing))  # fmt: skip
    report = report_of(here, tmp_path)
    assert any(n.startswith("sex: nothing is known") for n in report["groups"]["notes"])
    sex = next(r for r in report["shift"]["columns"] if r["column"] == "sex")
    assert sex["unseen"] == [["absent", len(here.patient)]]
    assert "no labelled picture has a study date" in report["drift"][0]["note"]


def test_three_classes(tmp_path):
    here, source = hospitals.target(classes=3, patients=160), hospitals.source(classes=3)
    report = report_of(here, tmp_path, question=hospitals.question(classes=3), source=source)
    assert report["headline"] == "macro_auroc"
    assert {r["class"] for r in report["performance"]} == {"0", "1", "2", "all classes"}
    assert len(report["calibration"]) == 3


def test_a_class_that_is_absent_here(tmp_path):
    """Two of three classes: each can be judged against the rest, but not their mean."""
    here, source = hospitals.target(classes=3, patients=90), hospitals.source(classes=3)
    labels = [v if v != "2" else None for v in here.predictions.column("label").to_pylist()]
    report = report_of(hospitals.relabel(here, labels), tmp_path,
                       question=hospitals.question(classes=3), source=source)  # fmt: skip
    assert report["verdict"]["answer"] == "cannot tell"
    macro = headline(report, "macro_auroc")
    assert macro["value"] is None


def test_no_shift_and_a_good_model_is_use_as_is(tmp_path):
    """The control: two samples of one hospital; nothing is found and nothing is invented."""
    source = hospitals.source(seed=3, patients=400)
    here = hospitals.target(seed=4, patients=400)
    calibrated = {"margin_slope": (0.5, 2.0), "margin_oe": (0.7, 1.4), "max_width": 0.3}
    report = report_of(here, tmp_path, source=source, config=EvaluateConfig(
        resamples=200, permutations=99, cv_repeats=1, pdf=False, **calibrated))  # fmt: skip
    assert report["shift"]["embedding"]["p"] > 0.05
    assert report["differences"][0]["lower"] < 0 < report["differences"][0]["upper"]
    assert report["verdict"]["answer"] in {"use as is", "use after local adjustment"}
