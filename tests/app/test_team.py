"""The pages for the evaluation team, headless: numbers against loops, strangers' words, missing parts."""

import csv
import io
import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import reporting
from statsmodels.stats.proportion import proportion_confint
from streamlit.testing.v1 import AppTest

import evaluations
import text_team as text
from medssl import runs
from medssl.evaluate import attributes, cases, inputs
from medssl.evaluate.report import write as report_room
from medssl.files import atomic
from team import at_line, clusters, data_check, different, download, embedding_map, errors, parts
from team import groups as group_page
from team import threshold as threshold_page

APP = Path(__file__).parents[2] / "apps" / "review"
pytestmark = pytest.mark.filterwarnings("default")
PAGES = ("data_check", "different", "results", "groups", "threshold", "errors", "download")
IMAGE, LINK = "<img src=x onerror=alert(1)>", "**bold** [x](http://evil)"
SCRIPT = """
import sys
sys.path.insert(0, {app!r})
import importlib
from pathlib import Path
import evaluations, frame, who
review = evaluations.open_review(Path({run!r}))
reader = who.Reader("local:ab", "AB", frozenset(who.ROLES), False)
desk = frame.Desk(reader, frame.root(), frame.journal(), review, {name!r} or review.shown[0])
frame.banner()
for page in {pages!r}:
    importlib.import_module("team." + page).show(desk)
"""


def page_of(run, *pages, name=""):
    """A page (or several) on one evaluation, not yet run."""
    script = SCRIPT.format(app=str(APP), run=str(run), name=name, pages=pages)
    return AppTest.from_string(script, default_timeout=120)


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_RUNS", str(tmp_path))
    monkeypatch.setenv("MEDSSL_FEEDBACK", str(tmp_path / "feedback.sqlite"))


def written(out, parts_):
    """A made report as a finished run, its source absent."""
    told, source, here, asked = parts_
    facts = {"seed": 0, "parents": [], "manifest": {}}
    with runs.open_run(out, "evaluate", reporting.QUICK, facts):
        inputs.write_question(out, asked)
        runs.write_predictions(out / "predictions.parquet", here.predictions)
        with atomic(out / "embeddings.npy") as file:
            np.save(file, here.embeddings.astype(np.float32), allow_pickle=False)
        attributes.write(out, here.pictures)
        answers = here.answers(asked)
        rows = cases.table(asked, source, here, answers, told["calibration"], reporting.QUICK)
        cases.write(out, rows)
        report_room.write(out, told, source, here, asked)
    return out


def desk_of(run, name=""):
    review = evaluations.open_review(run)
    return SimpleNamespace(at=review, review=review, name=name or review.shown[0], root=run.parent)


def material_of(desk):
    found = parts._material.__wrapped__("", "", desk.at)
    assert not isinstance(found, str), found
    return found


def marked(at):
    """Everything that markdown reads."""
    kinds = (
        at.markdown,
        at.caption,
        at.warning,
        at.info,
        at.success,
        at.title,
        at.header,
        at.subheader,
    )
    return [str(e.value) for kind in kinds for e in kind]


def said(at):
    return " ".join([*marked(at), *(str(e.value) for e in at.text)])


def labelled(run):
    """Patients, answers and chances of class 1, by the files alone."""
    table = runs.read_predictions(run / "predictions.parquet").to_pylist()
    return [
        (r["patient_id"], int(r["label"] == "1"), r["score_1"])
        for r in table
        if r["label"] is not None
    ]


def counted(rows, line):
    """The four outcomes, by a loop."""
    out = Counter()
    for _, ill, score in rows:
        out[(score >= line, bool(ill))] += 1
    return {
        "found": out[True, True], "alarms": out[True, False], "missed": out[False, True],
        "left": out[False, False],
    }  # fmt: skip


def by_patient(rows):
    out = {}
    for who, ill, score in rows:
        before = out.get(who, (0, 0.0))
        out[who] = (max(before[0], ill), max(before[1], score))
    return [(who, ill, score) for who, (ill, score) in out.items()]


def test_every_page_on_a_real_run(report_run):
    at = page_of(report_run, *PAGES).run()
    assert not at.exception
    words = said(at)
    assert "Research use only. Not for diagnosis." in words
    for part in (
        text.FUNNEL,
        text.MAP,
        text.RANK_TITLE,
        text.GROUPS_TITLE,
        text.LINE,
        text.CHECKLISTS,
    ):
        assert part in words
    assert text.NO_SOURCE not in words


@pytest.mark.parametrize(
    "kind", ["binary", "multi", "multi-label", "unlabelled", "one class", "pack"]
)
def test_every_page_on_every_kind_of_report(kind, tmp_path):
    run = written(tmp_path / "made", reporting.made(kind))
    at = page_of(run, *PAGES).run()
    assert not at.exception
    words = said(at)
    assert text.NO_SOURCE in words
    assert text.NO_COHORT in words
    assert (text.NO_LABELS in words) == (kind == "unlabelled")
    if kind == "unlabelled":
        assert "flagged (" in words
    if kind == "binary":
        assert text.TIME in words
        assert any("month" in e.value.columns for e in at.dataframe)
    if kind == "one class":
        assert text.ONE_KIND in words


def test_names_of_strangers_stay_text(tmp_path):
    run = written(tmp_path / "made", reporting.hostile(IMAGE, site=LINK, level=LINK))
    at = page_of(run, *PAGES, name=IMAGE).run()
    assert not at.exception
    for words in marked(at):
        assert "<img" not in words
        assert "[x](" not in words
        assert "**bold**" not in words.replace("\\", "\0")
    assert IMAGE in " ".join(str(e.value) for e in at.text)
    assert any(LINK in option for option in at.selectbox(key="which_group").options)
    plots = [json.loads(e.proto.spec) for e in at.get("plotly_chart")]
    assert "<img" not in json.dumps([[t.get("text") for t in p["data"]] for p in plots])
    assert "<img" not in json.dumps([p["layout"].get("yaxis", {}).get("ticktext") for p in plots])


@pytest.mark.parametrize("unit", [text.PER_PATIENT, text.PER_IMAGE])
@pytest.mark.parametrize("share", [0.3, 0.85])
def test_slider_counts_what_a_loop_counts(report_run, unit, share):
    rows = labelled(report_run)
    rows = by_patient(rows) if unit == text.PER_PATIENT else rows
    shown = round(100 * float(np.quantile([score for _, _, score in rows], share)), 1)
    at = page_of(report_run, "threshold").run()
    at.radio(key="line_unit").set_value(unit)
    at.slider[0].set_value(shown).run()
    assert not at.exception
    have = counted(rows, shown / 100)
    n = sum(have.values())
    table = next(e.value for e in at.dataframe if text.LINE_COLUMNS[0] in e.value.columns)
    told = {r[text.LINE_COLUMNS[0]]: r for _, r in table.iterrows()}
    for name in ("found", "alarms", "missed"):
        assert float(told[text.LINE_ROWS[name]]["value"]) == pytest.approx(
            100 * have[name] / n, abs=0.051
        )
    assert told[text.LINE_ROWS["flagged"]]["counted on"] == f"{n} {unit}"
    if have["left"] + have["alarms"]:
        specificity = 100 * have["left"] / (have["left"] + have["alarms"])
        shown_as = float(told[text.LINE_ROWS["specificity"]]["value"])
        assert shown_as == pytest.approx(specificity, abs=0.051)
    whole = next(e.value for e in at.markdown if str(e.value).startswith("#### Per 100"))
    numbers = [int(w) for w in whole.replace(",", " ").replace(".", " ").split() if w.isdigit()]
    assert numbers[1] == numbers[2] + numbers[3]
    if unit == text.PER_PATIENT:
        low, high = proportion_confint(have["missed"], n, method="wilson")
        row = told[text.LINE_ROWS["missed"]]
        assert float(row["95 % from"]) == pytest.approx(100 * low, abs=0.1)
        assert float(row["to"]) == pytest.approx(100 * high, abs=0.1)


def test_slider_begins_at_the_exact_line_and_a_button_takes_it_back(report_run):
    desk = desk_of(report_run)
    line = desk.at.report["thresholds"]["1"]
    at = page_of(report_run, "threshold").run()
    begun = [e.value for e in at.dataframe]
    have = counted(by_patient(labelled(report_run)), line)
    table = next(t for t in begun if text.LINE_COLUMNS[0] in t.columns)
    flagged = 100 * (have["found"] + have["alarms"]) / sum(have.values())
    assert float(table["value"][0]) == pytest.approx(flagged, abs=0.051)
    at.slider[0].set_value(1.0).run()
    next(b for b in at.button if b.label == text.USE_WORKING).click().run()
    assert at.slider[0].value == pytest.approx(round(1000 * line) / 10)


def test_a_line_between_two_steps_is_itself():
    assert threshold_page.chosen(74.9, [0.7491912]) == 0.7491912
    assert threshold_page.chosen(75.0, [0.7491912]) == 0.75


def test_whole_numbers_of_a_hundred():
    for seed in range(50):
        share = np.random.default_rng(seed).dirichlet(np.ones(4) / 3)
        named = dict(zip("abcd", share, strict=True))
        whole = at_line.whole_hundred(named)
        assert sum(whole.values()) == 100
        assert all(abs(whole[k] - 100 * named[k]) < 1 for k in named)
    assert at_line.whole_hundred({"a": 0.29, "b": 0.71}) == {"a": 29, "b": 71}


def test_worth_of_a_line():
    g = np.random.default_rng(3)
    y, score, patient = g.integers(0, 2, 200), g.random(200), g.integers(0, 90, 200)
    for line, alarms in ((0.2, 4.0), (0.7, 1.0)):
        tp = sum(1 for a, s in zip(y, score, strict=True) if s >= line and a == 1)
        fp = sum(1 for a, s in zip(y, score, strict=True) if s >= line and a == 0)
        everyone = (y.sum() - (200 - y.sum()) / alarms) / 200
        expected = (tp - fp / alarms) / 200 - max(0, everyone)
        got = at_line.gain(y, score, patient, line, alarms)
        assert got.value == pytest.approx(expected, abs=1e-12)
        assert got.lower < got.value < got.upper


def test_export_says_the_line_and_the_banner(report_run):
    desk = desk_of(report_run)
    rows = labelled(report_run)
    who, y, score = (np.array(v) for v in zip(*rows, strict=True))
    done = at_line.figures_at(y, score, who, 0.3)
    words = threshold_page._export(desk, 0.3, text.PER_IMAGE, done)
    assert "Research use only. Not for diagnosis." in words
    assert "0.3000" in words
    assert f"{done['flagged'].n} rows" in words
    assert "changes nothing by itself" in words


def spec_of(at, number=0):
    return json.loads(at.get("plotly_chart")[number].proto.spec)


def test_map_marks_the_case_at_hand(report_run):
    desk = desk_of(report_run)
    at = page_of(report_run, "different")
    at.run()
    assert [t["name"] for t in spec_of(at)["data"]] == [text.SOURCE, text.HERE]
    assert text.HAND_NONE in said(at)
    key = desk.at.keys[3]
    at.session_state["case"] = key
    at.run()
    data = spec_of(at)["data"]
    assert [t["name"] for t in data] == [text.SOURCE, text.HERE, text.AT_HAND]
    shapes = {t["marker"]["symbol"] for t in data}
    assert len(shapes) == 3
    found = material_of(desk)
    here = found.here.embeddings[parts.rows_here(desk, found)]
    theirs = found.reference.embeddings
    mean = (here.mean(0) + theirs.mean(0)) / 2
    spread = sum((rows - mean).T @ (rows - mean) / len(rows) for rows in (here, theirs))
    axes = np.linalg.eigh(spread)[1][:, ::-1][:, :2]
    expected = np.abs((here[3] - mean) @ axes)
    star = data[2]
    assert np.abs([star["x"][0], star["y"][0]]) == pytest.approx(expected, abs=1e-4)
    assert parts.called(key) in said(at)


def test_a_selected_mark_takes_its_case_to_hand(report_run, monkeypatch):
    desk = desk_of(report_run)
    state = {"map": {"selection": {"points": [{"customdata": 5}]}}}
    monkeypatch.setattr(different.st, "session_state", state)
    different._take(desk)
    assert state["case"] == desk.at.keys[5]
    state["map"]["selection"]["points"] = []
    different._take(desk)
    assert state["case"] == desk.at.keys[5]


def test_map_of_one_hospital_and_of_many_pictures():
    g = np.random.default_rng(0)
    here = g.normal(size=(40, 6))
    alone = embedding_map.places(here, None, embedding_map.axes(here, None), [])
    assert alone.here.shape == (40, 2)
    assert alone.source.shape == (0, 2)
    here, theirs = g.normal(size=(4000, 6)), g.normal(size=(3000, 6))
    many = embedding_map.places(here, theirs, embedding_map.axes(here, theirs), [3999])
    assert 3999 in many.shown
    assert len(many.shown) <= embedding_map.MOST_HERE + 1
    assert len(many.shown_source) == embedding_map.MOST_SOURCE


def test_open_and_flag_of_a_case(report_run, tmp_path):
    at = page_of(report_run, "different").run()
    at.button(key="strange_flag").click().run()
    assert not at.exception
    from journal import Journal

    desk = desk_of(report_run)
    standing = Journal(tmp_path / "feedback.sqlite").standing("local:ab", desk.at.model)
    unlike = desk.at.numbers("unlike")
    picked = desk.at.keys[int(np.argsort(-unlike, kind="stable")[0])]
    assert [k for k, s in standing.items() if s.flagged] == [picked]


def test_verdict_sentences(report_run):
    report = desk_of(report_run).at.report
    sure = report | {"shift": report["shift"] | {"embedding": {"p": 0.001}}}
    open_ = report | {"shift": report["shift"] | {"embedding": {"p": 0.4}}}
    none = report | {"shift": report["shift"] | {"embedding": {"note": "too few"}}}
    assert different.verdict(sure)[0].startswith("Yes")
    assert different.verdict(open_)[0].startswith("No difference was found")
    assert "too few" in different.verdict(none)[0]


def test_members_of_a_group_are_those_that_a_loop_finds(report_run):
    desk = desk_of(report_run)
    found = material_of(desk)
    sexes = {r["image_id"]: r["sex"] for r in found.here.pictures.to_pylist()}
    expected = [k for k, key in enumerate(desk.at.keys) if sexes[key[0]] == "F"]
    assert expected
    assert group_page.members(desk, found, {"group": "sex", "level": "F"}) == expected
    assert group_page.members(desk, found, {"group": "no such", "level": "F"}) is None


def test_group_leads_to_the_worklist(tmp_path):
    run = written(tmp_path / "made", reporting.made("binary"))
    at = page_of(run, "groups").run()
    assert not at.exception
    which = at.selectbox(key="which_group")
    level = next(o for o in which.options if o.startswith("sex"))
    which.select(level).run()
    next(b for b in at.button if b.label == text.TO_WORKLIST).click().run()
    kept = at.session_state["only_cases"]
    desk = desk_of(run)
    rows = material_of(desk).here.pictures.to_pylist()
    expected = {(r["image_id"], r["slice"]) for r in rows if f"sex: {r['sex']}" == level}
    assert set(kept["keys"]) == expected
    at.checkbox(key="group_wrong").check().run()
    next(b for b in at.button if b.label == text.TO_WORKLIST).click().run()
    wrong = {
        (r["image_id"], r["slice"])
        for r in runs.read_predictions(run / "predictions.parquet").to_pylist()
        if r["label"] is not None and (r["score_1"] >= 0.5) != (r["label"] == "1")
    }
    assert set(at.session_state["only_cases"]["keys"]) == expected & wrong
    assert expected & wrong


def test_errors_are_those_that_a_loop_finds(report_run):
    desk = desk_of(report_run)
    found = errors.of_cases(desk)
    line = desk.at.report["thresholds"]["1"]
    have = counted(labelled(report_run), line)
    assert len(found.places) == have["missed"] + have["alarms"]
    assert (found.outcome[found.places] == 1).sum() == have["missed"]
    score = desk.at.numbers("score_1")
    odds = [np.log(s / (1 - s)) - np.log(line / (1 - line)) for s in score]
    far = np.abs(odds)
    assert set(found.confident) == {p for p in found.places if far[p] > np.median(far)}
    assert (np.diff(far[found.confident]) <= 1e-9).all()


def test_groups_of_errors_and_their_names():
    g = np.random.default_rng(1)
    rows = np.concatenate([g.normal(10 * k, 0.3, (n, 4)) for k, n in enumerate((30, 20, 10))])
    code = clusters.groups_of(rows, 3)
    assert [set(code[:30]), set(code[30:50]), set(code[50:])] == [{0}, {1}, {2}]
    inside = np.r_[np.ones(10, bool), np.zeros(30, bool)]
    common = clusters.Level("view AP", np.r_[np.ones(12, bool), np.zeros(28, bool)])
    rare = clusters.Level("year 2019", np.arange(40) % 2 == 0)
    assert clusters.named(inside, [common, rare]) == "view AP 100 % instead of 30 %"
    assert clusters.named(inside, [rare]) == text.NOTHING_COMMON


def test_neighbours_with_the_same_answer():
    g = np.random.default_rng(2)
    rows, patient, outcome = g.normal(size=(60, 5)), g.integers(0, 25, 60), g.integers(0, 2, 60)
    asked = np.array([0, 7, 33])
    got = clusters.share_alike(rows, patient, outcome, asked, 6)
    for k, place in enumerate(asked):
        near = []
        for j in range(60):
            if patient[j] != patient[place]:
                cosine = (
                    rows[j] @ rows[place] / np.linalg.norm(rows[j]) / np.linalg.norm(rows[place])
                )
                near.append((-cosine, j))
        alike = [outcome[j] == outcome[place] for _, j in sorted(near)[:6]]
        assert got[k] == pytest.approx(np.mean(alike))


def test_funnel_and_reasons(report_run, cohorts):
    desk = desk_of(report_run)
    folder = desk.at.cohort
    account = json.loads((folder / "cohort.json").read_text())
    rows = data_check.funnel(desk.at.report["flow"], account)
    names = text.FUNNEL_COLUMNS
    assert rows[0][names[0]] == text.FOUND
    assert rows[0][names[1]] == f"{account['found']:,}"
    assert rows[1][names[3]] == pytest.approx(account["indexed"] / account["found"])
    with (folder / "quarantine.csv").open(newline="") as file:
        many = Counter((r["code"], r["verdict"]) for r in csv.DictReader(file))
    got = {
        (r["code"], r["what became of them"]): int(r["files"]) for r in data_check.reasons(folder)
    }
    assert got == dict(many)
    hidden = data_check.funnel([{"what": "analysed", "images": "<5", "patients": "<5"}], None)
    assert hidden[0][names[1]] == "<5"
    assert hidden[0][names[3]] is None


def test_absent_header_fields(report_run):
    found = material_of(desk_of(report_run))
    rows = {r["field"]: r for r in data_check.absences(found)}
    for name in ("sex", "view", "spacing_row_mm"):
        column = [r[name] for r in found.here.pictures.to_pylist()]
        share = sum(v is None for v in column) / len(column)
        assert rows[name.replace("_", " ")][text.HEADER_COLUMNS[1]] == parts.percent(share)


def test_data_check_with_broken_files(report_run, cohorts, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(cohorts / "hospital_b", tmp_path / "b"))
    monkeypatch.setattr(evaluations.Review, "cohort", copy)
    (copy / "health.json").write_text(json.dumps({"manifest_sha256": "0", "findings": [
        {"level": "warn", "code": "W-X", "sentence": f"{IMAGE} {LINK}"}]}))  # fmt: skip
    at = page_of(report_run, "data_check").run()
    assert not at.exception
    assert text.OLD_CHECK in said(at)
    (copy / "twins.parquet").write_bytes(b"no table")
    (copy / "quarantine.csv").unlink()
    (copy / "health.json").write_text("[")
    at = page_of(report_run, "data_check").run()
    assert not at.exception
    assert text.NO_QUARANTINE in said(at)
    assert text.NO_CHECK in said(at)
    (copy / "cohort.json").unlink()
    at = page_of(report_run, "data_check").run()
    assert not at.exception
    assert text.NO_COHORT in said(at)


def test_report_files_checklists_and_comparison(report_run, tmp_path, monkeypatch):
    root = tmp_path / "runs"
    for name in ("old", "new"):
        shutil.copytree(report_run, root / name)
    monkeypatch.setenv("MEDSSL_RUNS", str(root))
    at = page_of(root / "new", "download").run()
    assert not at.exception
    assert at.selectbox(key="other").options == ["old"]
    packed = zipfile.ZipFile(io.BytesIO(download.zipped(report_run / "tables")))
    assert set(packed.namelist()) == {p.name for p in (report_run / "tables").iterdir()} | {
        text.NOTE_FILE
    }
    assert b"Not for diagnosis" in packed.read(text.NOTE_FILE)
    page = download.page_of(material_of(desk_of(report_run)))
    own = next(s for s in page.sections if s.id == "checklists").points
    for one, words in zip(download.filled(page), own, strict=True):
        open_ = one.count("person", "part")
        assert words.startswith(f"{one.name}: {len(one.rows)} items, {open_} of which")
    assert len(download.to_write(page)) >= 3


def test_absent_files_have_a_sentence(report_run, tmp_path, monkeypatch):
    root = tmp_path / "runs"
    run = Path(shutil.copytree(report_run, root / "only"))
    monkeypatch.setenv("MEDSSL_RUNS", str(root))
    for name in ("report.pdf", "CARD.md", "inputs.json"):
        (run / name).unlink(missing_ok=True)
    shutil.rmtree(run / "tables")
    at = page_of(run, *PAGES).run()
    assert not at.exception
    words = said(at)
    assert text.ABSENT_FILE.format(name=text.TABLES_ZIP) in words
    assert text.NO_OTHER in words
    assert text.NO_PARTS in words
    assert "keeps no inputs" in words
    assert str(root) not in words
    (run / "inputs.json").write_text("{")
    assert not page_of(run, *PAGES).run().exception


def test_percent_never_rounds_to_certainty():
    assert parts.percent(0.9999, 1) == "> 99.9 %"
    assert parts.percent(0.0001, 1) == "< 0.1 %"
    assert parts.percent(1.0, 1) == "100.0 %"
    assert parts.percent(0.0) == "0 %"
    assert parts.percent(None) == "-"
