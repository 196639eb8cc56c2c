"""The report's files: tables, contract, card and PDF hold the same numbers as the report."""

import copy
import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reporting
from pypdf import PdfReader

from medssl.errors import MedsslError
from medssl.evaluate.report import pdf, schema
from medssl.evaluate.report import write as report
from medssl.evaluate.report.checklists import load, names
from medssl.evaluate.report.sections_card import card_text
from medssl.evaluate.report.sections_tables import TABLES, write_tables

ROOT = Path(__file__).parents[2]
ASKED = {
    "performance", "groups", "columns", "calibration_points", "updates", "decision_curve", "cues",
    "readable", "masks", "coverage", "remedies", "sample_size", "drift", "flow", "participants",
}  # fmt: skip


def told(kind="binary"):
    return copy.deepcopy(reporting.made(kind)[0])


def contract(found):
    schema.check({**found, "schema": schema.SCHEMA})


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "kind", ["binary", "multi", "unlabelled", "one class", "pack", "multi-label"]
)
def test_every_table_is_there_twice_and_the_same(tmp_path, kind):
    found = told(kind)
    write_tables(tmp_path, found)
    assert set(TABLES) >= ASKED
    for name, (rows_of, columns) in TABLES.items():
        parquet = pq.read_table(tmp_path / f"{name}.parquet")
        lines = read_csv(tmp_path / f"{name}.csv")
        assert parquet.column_names == list(columns)
        assert parquet.num_rows == len(lines) == len(list(rows_of(found)))
        assert not any(pa.types.is_null(field.type) for field in parquet.schema)
        for one, line in zip(parquet.to_pylist(), lines, strict=True):
            for column, value in one.items():
                if isinstance(value, bool | str) or value is None:
                    assert line[column] == ("" if value is None else str(value))
                else:
                    assert float(line[column]) == value


def test_tables_hold_the_numbers_of_the_report(tmp_path):
    found = told()
    write_tables(tmp_path, found)

    def rows(name):
        return pq.read_table(tmp_path / f"{name}.parquet").to_pylist()

    for row, wanted in zip(rows("performance"), found["performance"], strict=True):
        assert (row["metric"], row["value"], row["upper"]) == (
            wanted["metric"], wanted.get("value"), wanted.get("upper"))  # fmt: skip
    curve = found["calibration"][0]["decision"]
    assert [r["model"] for r in rows("decision_curve")] == curve["model"]
    points = found["calibration"][0]["bands"]["points"]
    assert [r["observed"] for r in rows("calibration_points")] == points["observed"]
    assert [r["point"] for r in rows("calibration_points")] == list(range(1, len(points["n"]) + 1))
    assert [r["month"] for r in rows("drift")] == [1, 2, 3, 4, 5]
    path = found["drift"][0]["cusum"]["path"]
    assert [r["cusum"] for r in rows("drift")] == path
    judged = found["calibration"][0]["judged"]["methods"]
    for row, wanted in zip(rows("updates"), judged, strict=True):
        ends = [wanted["brier"][k] for k in ("value", "lower", "upper")]
        assert [row["brier"], row["brier_lower"], row["brier_upper"]] == ends
    picked = [r["method"] for r in rows("updates") if r["picked"]]
    assert picked == [found["calibration"][0]["judged"]["best"]]
    sex = next(r for r in rows("columns") if r["column"] == "sex")
    assert sex["levels"].startswith(("F: 0.", "M: 0."))
    assert {r["criterion"] for r in rows("sample_size")} == {"oe", "auroc", "slope", "net_benefit"}


def test_no_cell_is_a_formula(tmp_path):
    found, *_ = reporting.hostile("=cmd|'/c calc'!A1")
    write_tables(tmp_path, found)
    seen = 0
    for name in TABLES:
        cells = [
            v for r in pq.read_table(tmp_path / f"{name}.parquet").to_pylist() for v in r.values()
        ]
        cells += [v for r in read_csv(tmp_path / f"{name}.csv") for v in r.values()]
        for cell in cells:
            if isinstance(cell, str) and cell[:1] in "=+@" and cell:
                pytest.fail(f"{name}: {cell}")
            seen += isinstance(cell, str) and cell.startswith("'=")
    assert seen > 20


def test_text_that_is_no_utf_8_is_written(tmp_path):
    found = reporting.renamed(told(), {"1": "bad\udc80name"})
    write_tables(tmp_path, found)
    assert "bad?name" in {r["class"] for r in pq.read_table(tmp_path / "cues.parquet").to_pylist()}


@pytest.mark.parametrize(
    "kind", ["binary", "multi", "unlabelled", "one class", "pack", "multi-label"]
)
def test_the_contract_holds_for_every_shape(kind):
    contract({**told(kind), "remedies": reporting.REMEDIES})


def damaged(change):
    found = told()
    change(found)
    return found


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (
            lambda r: r["performance"][3].update(value=float("nan")),
            "performance.3.value is not a finite",
        ),
        (lambda r: r["settings"].update(seed=float("inf")), "settings.seed is not a finite"),
        (lambda r: r["performance"][0].update(value="0.5"), "performance.0.value"),
        (lambda r: r["performance"][2].pop("metric"), "performance.2.metric"),
        (lambda r: r["verdict"].update(answer="use it"), "verdict.answer"),
        (lambda r: r.update(more=1), "more: Extra"),
        (lambda r: r.pop("shift"), "shift: Field required"),
        (lambda r: r["groups"]["rows"][0].update(patients="few"), "groups.rows.0.patients"),
        (lambda r: r["calibration"][0]["decision"].pop("model"), "calibration.0.decision"),
        (lambda r: r["drift"][0]["months"][0].update(month=0), "drift.0.months.0.month"),
        (lambda r: r["shift"]["embedding"].update(p=1.5), "shift.embedding"),
        (lambda r: r["flow"][0].update(images=True), "flow.0.images"),
    ],
)
def test_a_broken_report_names_the_place(change, path, tmp_path):
    _, *rest = reporting.made()
    with pytest.raises(MedsslError) as caught:
        report.write(tmp_path, damaged(change), *rest)
    assert caught.value.code == "E-REPORT"
    assert any(path in problem for problem in caught.value.problems)
    assert not list(tmp_path.iterdir())


def test_a_few_problems_are_enough():
    found = told()
    for row in found["performance"]:
        row["value"] = "much"
    with pytest.raises(MedsslError) as caught:
        contract(found)
    assert len(caught.value.problems) == schema.MOST_PROBLEMS


def test_the_published_contract_is_this_one():
    assert (ROOT / "docs" / "report.schema.json").read_text(
        encoding="utf-8"
    ) == schema.json_schema()
    read = json.loads(schema.json_schema())
    assert read["properties"]["schema"]["const"] == schema.SCHEMA == 2
    assert read["additionalProperties"] is False
    mine = set(told()) | {"schema"}
    assert set(read["required"]) <= mine <= set(read["properties"])
    # Reports of earlier versions lack these.
    assert set(read["properties"]) - set(read["required"]) == {"patients_never", "settings_changed"}


def test_card_tells_the_same_verdict_and_numbers():
    found = told()
    text = card_text(found)
    row = next(r for r in found["performance"] if (r["metric"], r["cohort"], r["level"]) == (
        "auroc", "target", "image"))  # fmt: skip
    assert f"{row['value']:.3f} ({row['lower']:.3f} to {row['upper']:.3f})" in text
    assert f"**{found['verdict']['answer']}**" in text
    assert "f" * 64 in text
    assert "made from no other weights" not in text
    found["model"]["chain"] = [{"name": "micle", "sha256": "a" * 64, "made_by": "medssl pretrain"}]
    assert "a" * 64 in card_text(found)
    found["provenance"].pop("classifier")
    assert card_text(found) is None


def test_all_files_and_the_pdf(tmp_path):
    found, *rest = reporting.made()
    found = {**found, "settings": {**found["settings"], "pdf": True}}
    told_why = report.write(tmp_path, found, *rest)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["schema"] == 2
    assert {k: v for k, v in written.items() if k != "schema"} == found
    assert told_why is None
    read = PdfReader(tmp_path / "report.pdf")
    text = " ".join(p.extract_text() for p in read.pages)
    assert f"Verdict: {found['verdict']['answer']}" in " ".join(text.split())
    assert "Research use only. Not for diagnosis." in " ".join(read.pages[3].extract_text().split())
    assert read.metadata.title == "New-hospital report: finding"
    alternatives = _alternatives(read)
    assert len(alternatives) == (tmp_path / "report.html").read_text().count("<svg")
    assert any("AUROC with 95 % intervals" in a for a in alternatives)


def _alternatives(read):
    """The alternative text of every figure of the tagged PDF, by a walk through its tree."""
    found, waiting = [], [read.trailer["/Root"]["/StructTreeRoot"]]
    while waiting:
        one = waiting.pop().get_object()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            if one.get("/S") == "/Figure":
                found.append(str(one.get("/Alt", "")))
            if "/K" in one:
                waiting.append(one["/K"])
    return found


def test_without_a_pdf_the_sentence_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf, "write_pdf", lambda text, path: "report.pdf was not written: why.")
    found, *rest = reporting.made()
    assert report.write(tmp_path / "a", found, *rest) == "not asked for (pdf=false)"
    found = {**found, "settings": {**found["settings"], "pdf": True}}
    assert report.write(tmp_path, found, *rest) == "report.pdf was not written: why."
    assert (tmp_path / "report.html").is_file()


def test_checklists_say_who_must_write(tmp_path):
    report.write(tmp_path, *reporting.made())
    words = reporting.Reader((tmp_path / "report.html").read_text()).words
    part = words[
        words.index("Reporting checklists In") if "Reporting checklists In" in words else 0 :
    ]
    assert "a person must write this" in part
    assert "filled: section" in part
    for name in names():
        one = load(name)
        assert one.link in words
        assert f"{one.name}: {len(one.items)} items" in words
