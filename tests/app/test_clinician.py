"""The clinician's pages, headless, on a finished synthetic evaluation."""

import json
import re
import shutil
import sqlite3
import threading
import time

import numpy as np
import pages
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

import evaluations
import similar
import text
import text_pages
from clinician import about, answer, feedback, maps, mine, panes, read, tour, trust, worklist
from clinician.drawn import Bar, bars, dots
from evaluations import Review, open_review
from journal import Journal, Status
from medssl import runs
from medssl.errors import MedsslError
from shelf import SHELF, Lists, Shelf

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def home(report_run, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSSL_RUNS", str(report_run.parent))
    monkeypatch.setenv("MEDSSL_FEEDBACK", str(tmp_path / "review.sqlite"))
    return tmp_path / "review.sqlite"


@pytest.fixture
def app(home):
    made = AppTest.from_file(str(pages.APP / "main.py"), default_timeout=120)
    made.session_state["reader_name"] = "AB"
    return made


@pytest.fixture(scope="module")
def review(report_run):
    return open_review(report_run)


def test_nobody_reads_without_a_name(home):
    page = AppTest.from_file(str(pages.APP / "main.py"), default_timeout=120).run()
    assert not page.exception
    assert text.BANNER in pages.said(page)
    page.text_input[0].input("<b>x")
    page.button[0].click().run()
    assert "Use letters" in pages.said(page)
    page.text_input[0].input("AB")
    page.button[0].click().run()
    assert page.session_state["reader_name"] == "AB"


def test_from_the_list_through_a_case(app, home, review):
    page = app.run()
    assert not page.exception
    assert f"**{len(review)}** of {len(review)} cases wait" in pages.said(page)
    next(b for b in page.button if b.label == text.START).click()
    page.run()
    assert not page.exception
    order = np.argsort(review.uncertainty(review.shown[0]), kind="stable")
    first = review.keys[int(order[0])]
    assert page.session_state["case"] == first
    assert text.READ_FIRST in pages.said(page)
    assert text.COMPUTER not in pages.said(page)
    own = next(b for b in page.button if b.label == "Probably")
    own.click().run()
    assert not page.exception
    told = pages.said(page)
    assert text.COMPUTER in told
    assert "Your read: **present** (fairly sure)" in told
    next(b for b in page.button if b.label == text.AGREE).click().run()
    assert page.session_state["case"] == review.keys[int(order[1])]
    assert "Saved on the case before: Agree." in pages.said(page)
    standing = Journal(home).standing("local:ab", review.model)
    assert standing[first].feedback["verdict"] == "agree"
    assert standing[first].read["answer"] == "present"
    assert standing[first].read["seconds"] >= 0


def test_undo_of_the_case_before(app, home, review):
    page = app.run()
    next(b for b in page.button if b.label == text.START).click()
    page.run()
    first = page.session_state["case"]
    next(b for b in page.button if b.label == "Surely not").click().run()
    next(b for b in page.button if b.label == text.AGREE).click().run()
    next(b for b in page.button if b.label == text.UNDO).click().run()
    assert not page.exception
    assert page.session_state["case"] == first
    assert Journal(home).standing("local:ab", review.model)[first].feedback is None


def test_disagreement_with_reasons_box_and_note(home, review):
    page = pages.page_of("clinician.case")
    next(b for b in page.button if b.label == "Surely").click().run()
    key = page.session_state["case"]
    page.session_state["box"] = (key, {"slice": 0, "x0": 3, "y0": 4, "x1": 9, "y1": 12})
    next(b for b in page.button if b.label == text.DISAGREE).click().run()
    assert "columns 3 to 9, rows 4 to 12" in pages.said(page)
    page.text_area[0].input("<script>alert(1)</script>")
    next(s for s in page.selectbox if s.label == text.CORRECTED).select_index(0)
    next(b for b in page.button if b.label == text.SAVE).click().run()
    assert not page.exception
    said = Journal(home).standing("local:ab", review.model)[key].feedback
    assert said["verdict"] == "disagree"
    assert said["box"] == {"slice": 0, "x0": 3, "y0": 4, "x1": 9, "y1": 12}
    assert said["note"] == "<script>alert(1)</script>"
    assert said["corrected"] in review.report["classes"]
    assert any(t.value == "<script>alert(1)</script>" for t in page.text)


def test_the_second_reader_does_not_see_the_first(home, review):
    page = pages.page_of("clinician.case")
    next(b for b in page.button if b.label == "Probably").click().run()
    other = pages.page_of("clinician.case", reader="CD")
    assert text.COMPUTER not in pages.said(other)
    assert "Your read:" not in pages.said(other)
    listed = pages.page_of("clinician.worklist", reader="CD")
    assert f"**{len(review)}** of {len(review)} cases wait" in pages.said(listed)


def test_without_read_first_the_answer_is_there(home):
    page = pages.page_of("clinician.case")
    page.session_state["habit_read_first"] = False
    page.run()
    assert text.COMPUTER in pages.said(page)


def test_confirmed_answer_comes_last(home, review):
    page = pages.page_of("clinician.case")
    next(b for b in page.button if b.label == "Can't tell").click().run()
    assert text.AFTER_YOURS in pages.said(page)
    assert "Confirmed answer: " not in pages.said(page)
    page.session_state["habit_go_on"] = False
    next(b for b in page.button if b.label == text.AGREE).click().run()
    assert "Confirmed answer: " in pages.said(page)


@pytest.mark.parametrize("chip", list(text.CHIPS))
def test_filters_against_loops(home, review, chip):
    name = review.shown[0]
    book = Journal(home)
    for k, own in ((0, "present"), (1, "absent"), (2, "present")):
        key = review.keys[k]
        book.add("local:ab", "read", {"answer": own, "confidence": 3}, model=review.model, key=key)
        book.add("local:ab", "revealed", {}, model=review.model, key=key)
    book.add("local:ab", "flag", {"on": True}, model=review.model, key=review.keys[1])
    page = pages.page_of("clinician.worklist")
    page.session_state["chips"] = [chip]
    page.run()
    assert not page.exception
    words, unlike = review.words(name), review.numbers("unlike")
    patients = review.column("patient_id")
    expected = set()
    for k in range(len(review)):
        own = {0: "present", 1: "absent", 2: "present"}.get(k)
        fits = {
            "waiting": own is None,
            "unsure": words[k] == "unsure" and own is not None,
            "unlike": unlike[k] > 99,
            "flagged": k == 1,
            "patient": patients.count(patients[k]) > 1,
            "differ": own is not None
            and words[k] != "unsure"
            and (own == "present") != (words[k] == "likely"),
        }[chip]
        if fits:
            expected.add(k)
    if expected:
        assert set(page.session_state["order"][1]) == expected
    else:
        assert text.NOTHING in pages.said(page)


@pytest.mark.parametrize("order", list(text.ORDERS))
def test_orders(home, review, order):
    page = pages.page_of("clinician.worklist")
    page.session_state["sort"] = order
    page.run()
    listed = page.session_state["order"][1]
    assert sorted(listed) == list(range(len(review)))
    if order == "chance":
        # Nothing was read yet, so nothing is told by the order.
        assert listed == sorted(listed)
        page.session_state["habit_read_first"] = False
        page.run()
        chances = review.chances(review.shown[0])[page.session_state["order"][1]]
        assert (np.diff(chances) <= 1e-12).all()
    if order == "code":
        assert [review.keys[k] for k in listed] == sorted(review.keys)


def test_the_list_hides_what_was_not_read(home, review):
    """No row of the list tells the computer's answer before the reader's own."""
    name, key = review.shown[0], review.keys[0]
    standing = {key: Status(revealed="2026-01-01T00:00:00")}
    desk = type("Desk", (), {"at": review, "name": name})()
    rows, tones = worklist._rows(desk, standing, list(range(len(review))), blind=True)
    assert tones[0] != "hidden"
    assert rows[0][4] == answer.chance(review.answer(0, name))
    for row, tone in zip(rows[1:], tones[1:], strict=True):
        assert (row[3], row[4], tone) == (text.HIDDEN, "", "hidden")
        assert "%" not in " ".join(row)


class TestAnswers:
    def test_words_follow_the_sets(self, review):
        name = review.shown[0]
        other = next(c for c in review.report["classes"] if c != name)
        g, table = np.random.default_rng(0), review.table
        for c in (name, other):
            place = table.column_names.index(f"may_{c}")
            table = table.set_column(place, f"may_{c}", pa.array(g.random(len(review)) < 0.6))
        telling = Review(review.run, review.report, table, review.rows, review.manifest)
        may, against = telling.numbers(f"may_{name}"), telling.numbers(f"may_{other}")
        for k in range(len(review)):
            pair = bool(may[k]), bool(against[k])
            word = {(True, False): "likely", (False, True): "not likely"}.get(pair, "unsure")
            why = {(True, True): "both", (False, False): "neither"}.get(pair, "")
            chance = telling.chances(name)[k]
            if (word == "likely" and chance < 0.5) or (word == "not likely" and chance >= 0.5):
                word, why = "unsure", "against"
            assert (telling.answer(k, name).word, telling.answer(k, name).why) == (word, why)

    def test_without_sets_the_band_decides(self, review):
        name = review.shown[0]
        table = review.table
        for c in review.report["classes"]:
            place = table.column_names.index(f"may_{c}")
            table = table.set_column(place, f"may_{c}", pa.array([None] * len(review), pa.bool_()))
        blind = Review(review.run, review.report, table, review.rows, review.manifest)
        line = review.report["thresholds"][name]
        score = review.numbers(runs.SCORE + name)
        at = review.numbers(f"chance_{name}")[np.argmin(np.abs(score - line))]
        for k in range(len(review)):
            found = blind.answer(k, name)
            if found.lower is not None and found.lower <= at <= found.upper:
                assert (found.word, found.why) == ("unsure", "line")
            elif (score[k] >= line) != (found.chance >= 0.5):
                assert (found.word, found.why) == ("unsure", "against")
            else:
                assert found.word == ("likely" if score[k] >= line else "not likely")

    @pytest.mark.parametrize(
        ("share", "words"),
        [(0.0, "fewer than 1"), (0.004, "fewer than 1"), (0.31, "31"), (0.996, "more than 99")],
    )
    def test_never_four_digits(self, share, words):
        assert answer.percent(share) == words

    def test_range_in_words(self):
        assert answer.range_words(0.31, 0.24, 0.39) == "31 % (24 to 39)"
        assert answer.range_words(0.31, float("nan"), 0.39) == "31 %"

    def test_whole_sentence(self, review):
        desk = type("Desk", (), {"at": review, "name": review.shown[0]})()
        told = answer.sentence(desk, 0)
        assert "%" in told
        assert told.count(".") >= 3


def test_hundred_dots():
    drawing = dots(31)
    assert drawing.count("<circle") == 100
    assert drawing.count('fill="#E69F00"') == 31


def test_bars_end_where_the_numbers_say():
    drawing = bars([Bar("<here>", 50.0, 40.0, 60.0, here=True)])
    assert 'width="100.0"' in drawing
    assert "M176.0 17H216.0" in drawing
    assert "&lt;here&gt;" in drawing


class TestSimilar:
    def test_nearest_of_other_patients(self, review, classifier_run):
        reference = similar.open_reference(review)
        features = review.embeddings[int(review.rows[0])]
        found = reference.nearest(features, "nobody", 6)
        table = runs.read_table(classifier_run / "embeddings.parquet")
        everything = np.load(classifier_run / "embeddings.npy")
        best = {}
        for k, row in enumerate(table.to_pylist()):
            if row["split"] != "train":
                continue
            cosine = everything[k] @ features
            cosine /= np.linalg.norm(everything[k]) * np.linalg.norm(features)
            if cosine > best.get(row["patient_id"], (-2,))[0]:
                best[row["patient_id"]] = (cosine, row["image_id"])
        expected = [image for _, image in sorted(best.values(), reverse=True)[:6]]
        assert [s.key[0] for s in found] == expected

    def test_never_the_same_patient(self, review):
        reference = similar.open_reference(review)
        own = str(reference.patients[0])
        owner = dict(zip(reference.keys, reference.patients, strict=True))
        found = reference.nearest(reference.unit[0], own, 12)
        assert own not in {owner[s.key] for s in found}
        assert len({owner[s.key] for s in found}) == len(found)

    def test_words_of_likeness_by_the_references_own(self, review):
        reference = similar.open_reference(review)
        nearest = []
        for k in range(len(reference.unit)):
            others = reference.patients != reference.patients[k]
            nearest.append((reference.unit[others] @ reference.unit[k]).max())
        assert reference.limits == pytest.approx(np.percentile(nearest, [50, 5]), abs=1e-5)
        assert reference._word(1.0) == "very"
        assert reference._word(-1.0) == "barely"


class TestMaps:
    def test_letterbox_is_taken_off(self):
        """A gradient over the square, read inside its box, against plain interpolation."""
        grid, side, box = 12, 48, (8, 4, 32, 40)
        centres = (np.arange(grid) + 0.5) * side / grid
        values = centres[:, None] + 100 * centres[None, :]
        got = maps.onto_picture(values, box, side)
        for i in (1, 5, 10):
            for j in (1, 6, 10):
                y = box[0] + (i + 0.5) * box[2] / grid
                x = box[1] + (j + 0.5) * box[3] / grid
                assert got[i, j] == pytest.approx(y + 100 * x)

    def test_asked_for_and_shown(self, home, review):
        page = pages.page_of("clinician.case")
        next(b for b in page.button if b.label == "Probably").click().run()
        next(b for b in page.button if b.label == text.WHERE_BUTTON).click().run()
        assert not page.exception
        told = pages.said(page)
        assert "Checked: a model that has learnt nothing" in told or text.WHERE_FLAT in told


class TestPanes:
    def test_what_the_viewer_gets(self, home, review, monkeypatch):
        monkeypatch.setattr(panes, "session", lambda: "s")
        desk = type("Desk", (), {"at": review, "name": review.shown[0]})()
        made = panes.payload(desk, 0, [0, 1, 2], None)
        first = made["panes"][0]
        token = first["url"].rsplit("/", 1)[1]
        plane = SHELF.plane(token, 0)
        assert (
            len(plane)
            == first["rows"] * first["cols"] * {"i2": 2, "u2": 2, "f4": 4, "rgb": 3}[first["dtype"]]
        )
        assert review.keys[0][0] not in first["url"]
        mine = {review.keys[k][0] for k in review.of_patient[review.column("patient_id")[0]]}
        assert len(made["panes"]) == min(len(mine), 1 + panes.MOST_OTHERS)

    def test_other_images_are_of_this_patient_only(self, home, review, monkeypatch):
        monkeypatch.setattr(panes, "session", lambda: "s2")
        source = panes.source_of(review)
        owners = dict(zip([k[0] for k in review.keys], review.column("patient_id"), strict=True))
        seen = []
        real = panes.pixels.opened

        def watched(source, session, image, reader):
            seen.extend([image] if session == "s2" else [])
            return real(source, session, image, reader)

        monkeypatch.setattr(panes.pixels, "opened", watched)
        many = next(
            k for k, p in enumerate(review.column("patient_id")) if len(review.of_patient[p]) > 1
        )
        panes._others(review, source, many)
        assert seen
        assert {owners[i] for i in seen} == {review.column("patient_id")[many]}
        assert review.keys[many][0] not in seen

    def test_without_its_files_the_stored_picture_stands_in(self, review, tmp_path):
        cohort = tmp_path / "cohort"
        shutil.copytree(review.cohort, cohort)
        shutil.rmtree(cohort / "private")
        source = panes.pixels.Source(cohort, panes.source_of(review).decode)
        original, why = source.original(review.keys[0][0], panes.pixels.FRONT)
        assert "not known on this machine" in why
        assert original.values.shape == (1, source.side, source.side)
        assert panes.pixels.Source(None, {}).original("i", panes.pixels.FRONT)[0] is None


class TestTrust:
    def test_numbers_are_the_reports(self, home, review):
        page = pages.page_of("clinician.trust")
        assert not page.exception
        told = pages.said(page)
        row = trust.row_of(review.report, "auroc", review.shown[0], "target")
        assert (
            f"**{100 * row['value']:.0f} ({100 * row['lower']:.0f} to {100 * row['upper']:.0f})**"
            in told
        )
        assert text.VERDICT_WORDS[review.report["verdict"]["answer"]] in told

    def test_misses_are_misses_of_different_patients(self, review):
        name = review.shown[0]
        found = trust.typical_misses(review, name)
        labels, score = review.column("label"), review.numbers(runs.SCORE + name)
        line = review.report["thresholds"][name]
        assert all(labels[k] == name and score[k] < line for k in found)
        assert len({review.column("patient_id")[k] for k in found}) == len(found)

    def test_percentages_too_high_too_low(self, review):
        report = json.loads(json.dumps(review.report))
        name = review.shown[0]
        for low, high, word in (
            (1.1, 1.6, "too low"),
            (0.3, 0.8, "too high"),
            (0.8, 1.3, "about right"),
        ):
            for row in report["performance"]:
                if row["metric"] == "observed_over_expected" and row["cohort"] == "target":
                    row.update(lower=low, upper=high, value=(low + high) / 2)
            told = AppTest.from_function(
                _percentages, args=(report, name), default_timeout=60
            ).run()
            assert word in pages.said(told)


def _percentages(report, name):
    from clinician import trust
    from evaluations import Review
    from medssl import runs

    trust._percentages(Review(runs.Run(None), report, None, None, {}), name)


class TestMine:
    def test_entries_export_and_audit(self, home, review):
        key = review.keys[0]
        book = Journal(home)
        book.add(
            "local:ab", "read", {"answer": "present", "confidence": 5}, model=review.model, key=key
        )
        book.add("local:ab", "revealed", {}, model=review.model, key=key)
        page = pages.page_of("clinician.mine")
        assert not page.exception
        assert "Your cases: 1" in pages.said(page)

    def test_nothing_yet(self, home):
        assert text_pages.MINE_NONE in pages.said(pages.page_of("clinician.mine"))

    def test_a_colleagues_read_shows_only_after_mine(self):
        own = {("a", -1): Status(read={"answer": "present"}), ("b", -1): Status(revealed="t")}
        theirs = {"cd": {(k, -1): Status(read={"answer": "absent"}) for k in "abc"}}
        assert mine.shared(own, theirs) == [(("a", -1), "present", "absent")]

    def test_kappa_in_words(self):
        pairs = [((str(k), -1), a, b) for k, (a, b) in enumerate(
            [("present", "present")] * 20 + [("present", "absent")] * 5
            + [("absent", "present")] * 10 + [("absent", "absent")] * 15
        )]  # fmt: skip
        # Observed 0.7, expected 0.5: kappa 0.4.
        told = mine.words_of_kappa(pairs)
        assert "**35 of 50**" in told
        assert "moderate" in told
        assert text_pages.KAPPA_NONE in mine.words_of_kappa(
            [((str(k), -1), "a", "a") for k in range(3)]
        )


class TestTour:
    def test_stops_teach_what_they_say(self, review):
        name = review.shown[0]
        labels, words = review.column("label"), review.words(name)
        for stop in tour.stops_of(review, name):
            says, is_so = words[stop.case] == "likely", labels[stop.case] == name
            if stop.lesson == "unlike":
                assert review.numbers("unlike")[stop.case] > 99
                continue
            assert words[stop.case] != "unsure"
            lesson = {(True, False): "alarm", (False, True): "miss"}.get((says, is_so), "right")
            assert stop.lesson == lesson

    def test_a_label_of_another_kind_is_no_error(self, review):
        """A confirmed answer that the model cannot give says nothing of it."""
        table = review.table
        at = table.column_names.index("label")
        strange = table.set_column(at, "label", pa.array(["something else"] * len(review)))
        other = Review(review.run, review.report, strange, review.rows, review.manifest)
        assert {s.lesson for s in tour.stops_of(other, review.shown[0])} <= {"unlike"}

    def test_to_the_end(self, home):
        page = pages.page_of("clinician.tour")
        for _ in range(6):
            going = [
                b for b in page.button if b.label in (text_pages.TOUR_SHOW, text_pages.TOUR_ON)
            ]
            if not going:
                break
            going[0].click().run()
            assert not page.exception
        assert text_pages.TOUR_END in pages.said(page)


def test_about_names_what_it_learnt_from(home, review):
    page = pages.page_of("clinician.about")
    assert not page.exception
    assert str(review.report["model"]["patients_seen"]) in pages.said(page)


def test_failures_are_told_by_their_limits():
    row = {
        "what": "1",
        "encoder": "grey-level histogram",
        "value": 0.8,
        "lower": 0.75,
        "upper": 0.84,
    }
    report = {"shortcuts": {"simple": [row]}}
    assert "80 (75 to 84) times in 100" in about.failures(report, "1")[0]
    assert about.failures({"shortcuts": {"simple": [{**row, "lower": 0.55}]}}, "1") == []
    assert about.failures({"shortcuts": {"note": "not run"}}, "1") == []


FORBIDDEN = re.compile(
    r"AUROC|\bAUC\b|sensitivity|specificity|\bPPV\b|\bNPV\b|calibrat|\blogits?\b|\bscore\b|threshold|"
    r"operating point|out.of.distribution|embedding|saliency|grad.?cam|conformal|covariate|label shift|"
    r"ground truth|softmax|encoder|neural|inference\b",
    re.IGNORECASE,
)  # fmt: skip


@pytest.mark.parametrize("module", [text, text_pages])
def test_no_words_of_the_trade(module):
    """Sentences of clinicians' pages are free of the words that section 6 of the plan replaces."""
    theirs = {"TEAM_PAGES", "RESEARCH_PAGES"}
    for name, value in vars(module).items():
        if name.isupper() and name not in theirs:
            words = re.sub(r"\{\w+\}", "", json.dumps(value, default=str))
            found = FORBIDDEN.search(words)
            assert found is None, f"{name}: {found}"


@pytest.mark.parametrize("module", ["worklist", "case", "trust", "mine", "about", "tour"])
def test_pages_say_no_words_of_the_trade(home, module):
    page = pages.page_of(f"clinician.{module}")
    for button in [b for b in page.button if b.label in ("Probably", text_pages.TOUR_SHOW)]:
        button.click().run()
    assert not page.exception
    told = " ".join([pages.said(page), *pages.labels(page)])
    assert text.BANNER in told
    assert FORBIDDEN.search(told) is None, FORBIDDEN.search(told)


class TestBroken:
    """Run directories that are incomplete, damaged or hostile give a sentence, never a trace."""

    @pytest.fixture
    def copy(self, report_run, tmp_path, monkeypatch):
        root = tmp_path / "root"
        place = root / "at_b"
        shutil.copytree(report_run, place)
        record = json.loads((place / "run.json").read_text())
        for p in record["parents"]:
            p["path"] = str((report_run / p["path"]).resolve())
        (place / "run.json").write_text(json.dumps(record))
        monkeypatch.setenv("MEDSSL_RUNS", str(root))
        monkeypatch.setenv("MEDSSL_FEEDBACK", str(tmp_path / "f.sqlite"))
        return place

    @pytest.mark.parametrize(
        "name", ["report.json", "cases.parquet", "predictions.parquet", "run.json"]
    )
    @pytest.mark.parametrize("how", ["gone", "cut"])
    def test_main_says_why(self, copy, name, how):
        file = copy / name
        if how == "gone":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        app = AppTest.from_file(str(pages.APP / "main.py"), default_timeout=60)
        app.session_state["reader_name"] = "AB"
        page = app.run()
        assert not page.exception
        assert page.info
        if name == "run.json":
            assert page.info[0].value == text.NO_RUNS
        else:
            assert "at_b" in page.info[0].value or name in page.info[0].value

    @pytest.mark.parametrize("name", ["embeddings.npy", "pictures.parquet"])
    def test_a_case_without_its_extras(self, copy, name):
        (copy / name).unlink()
        page = pages.page_of("clinician.case")
        next(b for b in page.button if b.label == "Probably").click().run()
        assert not page.exception

    def test_the_cohort_went_away(self, copy):
        record = json.loads((copy / "run.json").read_text())
        for p in record["parents"]:
            p["path"] = "/nowhere"
        (copy / "run.json").write_text(json.dumps(record))
        for module in ("worklist", "case", "trust", "about", "tour"):
            page = pages.page_of(f"clinician.{module}")
            assert not page.exception, module
        page = pages.page_of("clinician.case")
        next(b for b in page.button if b.label == "Probably").click().run()
        assert not page.exception
        assert text.SIMILAR_NONE in pages.said(page)

    def test_a_run_from_before_cases(self, copy):
        (copy / "cases.parquet").unlink()
        with pytest.raises(MedsslError, match="Report it anew"):
            open_review(copy)

    def test_hostile_words_stay_words(self, copy):
        report = json.loads((copy / "report.json").read_text())
        evil = "<img src=x onerror=alert(1)> **b** [x](http://evil.example) :red[r]"
        report["target"], report["source"]["name"] = evil, evil
        report["cohort"]["sites"] = [evil]
        (copy / "report.json").write_text(json.dumps(report))
        for module in ("worklist", "case", "trust", "about", "tour"):
            page = pages.page_of(f"clinician.{module}")
            if module == "case":
                next(b for b in page.button if b.label == "Probably").click().run()
            assert not page.exception, module
            for element in page.markdown:
                assert "](http://evil" not in element.value
                assert re.search(r"(?<!\\)(<img|\*\*b|:red\[)", element.value) is None


def test_cases_that_were_never_predicted_are_refused(report_run, tmp_path):
    place = tmp_path / "at_b"
    shutil.copytree(report_run, place)
    table = pq.read_table(place / "cases.parquet")
    names = ["i_unknown", *table.column("image_id").to_pylist()[1:]]
    at = table.column_names.index("image_id")
    pq.write_table(table.set_column(at, "image_id", pa.array(names)), place / "cases.parquet")
    with pytest.raises(MedsslError, match="not predicted"):
        open_review(place)


def test_short_and_escape():
    import frame

    assert evaluations.short("a\nb\x00c") == "a b c"
    assert len(evaluations.short("x" * 200)) == 60
    assert frame.escape("[x](y) *b* <i>") == r"\[x\]\(y\) \*b\* \<i\>"
    for address in ("http://evil", "www.evil", "a@b.c"):
        assert frame.JOINER in frame.escape(address)


def test_own_answers_in_words(review):
    assert read.own_in_words(review, "cannot tell") == "can't tell"
    assert feedback.corrections(review)["cannot tell"] == text.CANNOT_TELL


@pytest.mark.parametrize(
    ("word", "corrected", "reason"),
    [("likely", 0, "false alarm"), ("not likely", 1, "missed finding"), ("unsure", None, None)],
)
def test_what_a_disagreement_means(review, monkeypatch, word, corrected, reason):
    name = review.shown[0]
    order = sorted(map(str, review.report["classes"]), key=lambda c: c == name)
    monkeypatch.setitem(
        review.__dict__, "_words", {name: (np.array([word] * len(review), dtype=object), None)}
    )
    found = feedback.implied(review, 0, name)
    if corrected is None:
        assert found == {}
    else:
        assert found == {"corrected": order[corrected], "reasons": [reason]}


def test_a_disagreement_is_saved_before_it_is_explained(home, review):
    page = pages.page_of("clinician.case")
    next(b for b in page.button if b.label == "Surely").click().run()
    key = page.session_state["case"]
    next(b for b in page.button if b.label == text.DISAGREE).click().run()
    assert not page.exception
    assert Journal(home).standing("local:ab", review.model)[key].feedback["verdict"] == "disagree"
    assert page.session_state["case"] == key


def test_cases_handed_over_by_another_page(home, review):
    page = pages.page_of("clinician.worklist")
    wanted = tuple(review.keys[2:5])
    page.session_state["only_cases"] = {"words": "year: 2021", "keys": wanted}
    page.run()
    assert {review.keys[k] for k in page.session_state["order"][1]} == set(wanted)
    next(b for b in page.button if b.label == text.SHOW_ALL).click().run()
    assert len(page.session_state["order"][1]) == len(review)


class TestShelf:
    """Tokens open one image of one session, for a while."""

    @staticmethod
    def image(size=10):
        from medssl.originals import Original

        return Original({}, np.zeros((2, size, size), np.uint8))

    def test_tokens_belong_to_sessions_and_die(self):
        shelf = Shelf(idle_s=0.05)
        token = shelf.put("a", "x", self.image())
        assert shelf.put("a", "x", self.image()) == token
        assert shelf.put("b", "x", self.image()) != token
        assert shelf.find("b", "y") is None
        assert len(shelf.plane(token, 1)) == 100
        assert shelf.plane(token, 2) is None
        assert shelf.plane("guess", 0) is None
        time.sleep(0.1)
        assert shelf.plane(token, 0) is None
        assert shelf.find("a", "x") is None

    def test_room_is_made_by_the_longest_unused_and_spare_ones_wait(self):
        shelf = Shelf(held_bytes=500)
        first = shelf.put("a", "1", self.image())
        shelf.put("a", "2", self.image())
        shelf.plane(first, 0)
        shelf.put("a", "3", self.image(), spare=True)
        assert shelf.find("a", "3") is None
        shelf.put("a", "4", self.image())
        assert shelf.plane(first, 0) is not None
        assert shelf.find("a", "2") is None

    def test_leaving_puts_everything_away(self):
        shelf, lists = Shelf(), Lists()
        token = shelf.put("a", "x", self.image())
        mine = [("i", -1)]
        listed = lists.put("a", "c", lambda _: np.ones((3, 3), np.uint8), mine)
        assert lists.put("a", "c", lambda _: None, mine) == listed
        assert lists.thumb(listed, 0) == b"\x01" * 9
        assert lists.thumb(listed, 1) is None
        for one in (shelf, lists):
            one.drop("a")
        assert shelf.plane(token, 0) is None
        assert lists.thumb(listed, 0) is None

    def test_lists_under_threads(self):
        lists = Lists(most=8)
        errors = []

        def work(k):
            try:
                for n in range(200):
                    lists.thumb(lists.put(f"{k}{n % 9}", "c", lambda _: None, []), 0)
            except RuntimeError as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert errors == []


def test_a_file_that_changed_is_not_shown_as_the_patients(report_run, review, tmp_path):
    """Whatever lies at the old path now: what the model was shown stands in, and the page says why."""
    cohort = tmp_path / "cohort"
    shutil.copytree(review.cohort, cohort)
    first, other = review.keys[0][0], review.keys[-1][0]
    record = cohort / "private" / "paths.json"
    told = json.loads(record.read_text())
    told["images"][first], told["identities"] = told["images"][other], {}
    record.write_text(json.dumps(told))
    source = panes.pixels.Source(cohort, panes.source_of(review).decode)
    original, why = source.original(first, panes.pixels.FRONT)
    assert "changed" in why
    assert original.values.shape == (1, source.side, source.side)


def test_verdicts_are_kept_for_every_finding(home, review):
    """What is said of one finding says nothing of another; the flag is the case's."""
    book, key = Journal(home), review.keys[0]
    book.add("ab", "feedback", {"verdict": "agree", "finding": "a"}, model="m", key=key)
    book.add("ab", "flag", {"on": True, "finding": "a"}, model="m", key=key)
    assert book.standing("ab", "m", "a")[key].feedback["verdict"] == "agree"
    other = book.standing("ab", "m", "b")[key]
    assert other.feedback is None
    assert other.flagged


def test_what_is_read_after_the_answer_is_no_read(home, review):
    book, key = Journal(home), review.keys[0]
    book.add("ab", "read", {"answer": "present", "confidence": 3}, model="m", key=key)
    book.add("ab", "revealed", {}, model="m", key=key)
    book.add("ab", "read", {"answer": "absent", "confidence": 5}, model="m", key=key)
    assert book.standing("ab", "m")[key].read["answer"] == "present"


def test_undo_takes_back_what_it_stands_beside(home, review):
    page = pages.page_of("clinician.case")
    page.session_state["habit_go_on"] = False
    next(b for b in page.button if b.label == "Probably").click().run()
    key = page.session_state["case"]
    next(b for b in page.button if b.label == text.AGREE).click().run()
    next(b for b in page.button if b.label == text.FLAG).click().run()
    next(b for b in page.button if b.label == text.UNDO).click().run()
    status = Journal(home).standing("local:ab", review.model)[key]
    assert status.feedback is None
    assert status.flagged


def test_disagreeing_again_keeps_what_was_said(home, review):
    page = pages.page_of("clinician.case")
    next(b for b in page.button if b.label == "Probably").click().run()
    key = page.session_state["case"]
    next(b for b in page.button if b.label == text.DISAGREE).click().run()
    page.text_area[0].input("important")
    next(b for b in page.button if b.label == text.SAVE).click().run()
    next(b for b in page.button if b.label == text.DISAGREE).click().run()
    assert Journal(home).standing("local:ab", review.model)[key].feedback["note"] == "important"
    assert page.text_area[0].value == "important"


def test_what_is_shown_is_on_record(home, review):
    """Without read first, and on the tour, the answer counts as seen."""
    page = pages.page_of("clinician.case")
    page.session_state["habit_read_first"] = False
    page.run()
    key = page.session_state["case"]
    assert Journal(home).standing("local:ab", review.model)[key].revealed
    stops = tour.stops_of(review, review.shown[0])
    page = pages.page_of("clinician.tour")
    next(b for b in page.button if b.label == text_pages.TOUR_SHOW).click().run()
    seen = Journal(home).standing("local:ab", review.model)
    assert seen[review.keys[stops[0].case]].revealed


def test_keys_faster_than_the_server(home, review, monkeypatch):
    """Each key once and in turn; a verdict on a picture that is no longer at hand is refused."""
    from clinician import case as room

    state = {"in_sight": "A", "case": review.keys[0]}
    fake = type("St", (), {"session_state": state, "toast": staticmethod(lambda _: None)})
    monkeypatch.setattr(room, "st", fake)
    done = []
    monkeypatch.setattr(
        room.feedback, "say", lambda desk, case, what, go: done.append((case, what))
    )
    desk = type("Desk", (), {"at": review})()
    status = Status(revealed="t")
    order = list(range(len(review)))

    def act(n, what, shown="A", earlier=()):
        return {"what": what, "n": n, "id": shown, "earlier": list(earlier)}

    def send(told):
        monkeypatch.setattr(room, "_told", lambda _: told)
        room._act(desk, 0, order, status)

    state.update({"case": review.keys[0], "acts_done": 1})
    send(act(3, "agree", earlier=[act(2, "next")]))
    assert state["case"] == review.keys[1]
    assert done == []
    send(act(3, "agree", earlier=[act(2, "next")]))
    assert done == []
    state["case"] = review.keys[0]
    send(act(4, "agree"))
    send(act(4, "agree"))
    assert done == [(0, "agree")]
    send(act(5, "agree", shown="B"))
    assert done == [(0, "agree")]


def test_a_run_that_went_away_does_not_become_another(report_run, monkeypatch, tmp_path):
    root = tmp_path / "root"
    for name in ("one", "two"):
        shutil.copytree(report_run, root / name)
    monkeypatch.setenv("MEDSSL_RUNS", str(root))
    monkeypatch.setenv("MEDSSL_FEEDBACK", str(tmp_path / "f.sqlite"))
    app = AppTest.from_file(str(pages.APP / "main.py"), default_timeout=60)
    app.session_state["reader_name"] = "AB"
    page = app.run()
    chosen = next(s for s in page.selectbox if s.key == "run")
    gone = chosen.options[chosen.index]
    shutil.rmtree(root / gone)
    page.run()
    assert not page.exception
    assert page.info[0].value == text.GONE
    next(b for b in page.button if b.label == text.CHOOSE_ANOTHER).click().run()
    assert text.GONE not in pages.said(page)


def test_nothing_that_could_not_be_written_is_called_saved(home, review, monkeypatch):
    page = pages.page_of("clinician.case")
    next(b for b in page.button if b.label == "Probably").click().run()
    key = page.session_state["case"]

    def full(*_, **__):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Journal, "add", full)
    next(b for b in page.button if b.label == text.AGREE).click().run()
    assert not page.exception
    assert page.session_state["not_saved"]
    assert page.session_state["case"] == key
    assert "Saved" not in pages.said(page)


def test_an_unwritable_folder_is_said(report_run, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSSL_RUNS", str(report_run.parent))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDSSL_FEEDBACK", str(tmp_path / "file" / "f.sqlite"))
    app = AppTest.from_file(str(pages.APP / "main.py"), default_timeout=60)
    app.session_state["reader_name"] = "AB"
    page = app.run()
    assert not page.exception
    assert page.error[0].value == text.NO_JOURNAL
    assert text.BANNER in pages.said(page)
