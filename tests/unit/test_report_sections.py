"""The sections' tables and figures: what they show, what they leave out, and what they call it."""

import copy
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import reporting

from medssl.evaluate.report import figures_curves as curves
from medssl.evaluate.report import (
    page,
    schema,
    sections,
    sections_groups,
    sections_percentages,
    sections_performance,
    sections_remedies,
    sections_sets,
    sections_shift,
    sections_study,
)
from medssl.evaluate.report.checklists import SECTIONS
from medssl.evaluate.report.page import Material
from medssl.evaluate.report.write import html_of


def material(**changes):
    """A made evaluation with parts of its report replaced."""
    found, *rest = reporting.made()
    return Material({**copy.deepcopy(found), **changes}, *rest)


def by_pack(told):
    """The same with a source that is known by a pack only."""
    source = reporting.replace(told.reference, pack={}, validation=None)
    return Material(told.report, source, told.here, told.question)


def named(section, start):
    """The table of a section whose caption begins so."""
    return next(t for t in section.tables if t.caption.startswith(start))


def test_the_patient_table_begins_with_everyone():
    told = material()
    made = sections_study.participants(told)
    first = made.tables[0].rows[0]
    answers = told.here.answers(told.question)
    pairs = set(zip(answers.patient.tolist(), answers.outcome[:, 1].tolist(), strict=True))
    held = sum(y == 1 for _, y in pairs)
    assert first == ("all patients", "60", str(held), str(60 - held), "60")
    assert "0 patients have pictures of both kinds." in made.words
    assert made.told
    here = reporting.hospitals.relabel(told.here, [None] * len(told.here.patient))
    bare = Material(told.report, told.reference, here, told.question)
    unlabelled = sections_study.participants(bare)
    assert unlabelled.tables[0].rows[0] == ("all patients", "60", "-", "-", "60")
    assert sections_study.participants(by_pack(told)).tables[0].rows[0][-1] == "-"


def test_patients_of_both_kinds_are_counted():
    found, source, here, asked = reporting.made()
    labels = [str(k % 2) for k in range(len(here.patient))]
    both = reporting.hospitals.relabel(here, labels)
    words = sections_study.participants(Material(found, source, both, asked)).words
    assert "60 patients have pictures of both kinds." in words


def test_a_table_of_dashes_fills_no_item():
    rows = [{"attribute": a, "level": "not stated in any header"} for a in ("sex", "view")]
    told = material(participants=rows)
    assert not sections_study.participants(told).told
    made = dict.fromkeys(SECTIONS, page.section("x", "t", ["Words."]))
    made["participants"] = sections_study.participants(told)
    lists = sections._checklists(made)
    cells = [r for one in lists.tables for r in one.rows]
    mine = {r[0].split()[0]: r[2] for r in cells if "participants" in r[2]}
    assert set(mine) == {"36", "20b", "20c"}
    assert all("knows nothing of it here" in words for words in mine.values())
    assert not page.section("x", "t", tables=[page.table("c", ("a", "b"), [("x", "-")])]).told
    assert page.section("x", "t", ["Words."]).told
    assert not page.absent("x", "t", "why").told


def test_slices_are_told_as_slices():
    told = material()
    assert sections_study.pictures(told) == "120 images"
    table = told.here.predictions
    n = table.num_rows
    images = [f"v{k // 4}" for k in range(n)]
    for name, values in (("slice", [k % 4 for k in range(n)]), ("image_id", images)):
        place = table.column_names.index(name)
        kind = table.schema.field(name).type
        table = table.set_column(place, name, reporting.pa.array(values, kind))
    here = reporting.replace(told.here, predictions=table)
    flow = [{"what": w, "images": 30, "patients": 60} for w in ("x", "pictures predicted")]
    sliced = Material({**told.report, "flow": flow}, told.reference, here, told.question)
    assert sections_study.pictures(sliced) == "120 slices of 30 volumes"
    made = named(sections_study.data(sliced), "From found")
    assert made.header[1] == "images or slices"
    assert [r[0] for r in made.rows] == ["x", "pictures predicted (120 slices of 30 volumes)"]


def test_the_model_section_says_who_it_learnt_from():
    rows = named(sections_study.model(material()), "Whom it learnt").rows
    assert rows[0] == ("training", "a", "100", "200", "draw 0: linear, 100 % of the labels")
    assert rows[1][1:4] == ("a", "60", "120")
    assert rows[2][1:4] == ("a", "60", "120")
    facts = {r[0] for r in sections_study.model(material()).tables[0].rows}
    assert "patients seen" not in facts
    pack = named(sections_study.model(by_pack(material())), "Whom it learnt").rows
    assert pack[1][2:4] == ("-", "-")


def test_enough_by_the_width_found():
    one = {"name": "slope", "needed": 523, "had": 305, "target": 0.4, "foreseen": 0.5, "achieved": 0.1,
           "enough": True, "note": ""}  # fmt: skip
    rest = [{**one, "name": "oe", "needed": 100}, {**one, "name": "auroc", "enough": False}]
    size = [{"class": "1", "targets": {}, "after": {"criteria": [one, *rest], "note": ""}}]
    rows = named(sections_study.size(material(sample_size=size)), "Patients needed").rows
    assert [r[3] for r in rows] == ["yes, by the width found", "yes", "no"]


def test_the_command_that_reports_anew():
    found = reporting.made()[0]
    settings = {**found["settings"], "margin_oe": [0.7, 1.4], "since": "2031-01"}
    part = copy.deepcopy(reporting.REMEDIES)
    for r in part["rows"]:
        r["remedy"] = "local; labels"
    words = sections_study.command({**found, "settings": settings, "remedies": part})
    assert words.startswith("medssl evaluate THIS-RUN ")
    assert words.endswith(" --compare 'local; labels'=RUN,RUN --out NEW-RUN")
    assert " since=2031-01 " in words
    assert " 'margin_oe=[0.7, 1.4]' " in words
    assert "floor_auroc" not in words
    assert (
        words
        in sections_study.reproducibility(material(settings=settings, remedies=part)).words[-1]
    )


def test_both_classes_have_their_labelled_share():
    made = named(sections_shift.shift(material()), "How common each class")
    assert "(source: 60 patients)" in made.caption
    shares = [int(r[-1].removesuffix(" %")) for r in made.rows]
    assert [r[0] for r in made.rows] == ["without finding", "with finding"]
    assert sum(shares) in {99, 100, 101}
    told = material()
    told.report["shift"]["labels"]["caution"] = "Only where the pictures are alike."
    assert "Only where the pictures are alike." in sections_shift.shift(told).words


def test_tables_say_how_many_patients_of_the_source():
    told = material()
    tests = named(sections_shift.shift(told), "Pictures and answers")
    assert "1,000 at most" in tests.caption
    assert tests.rows[0][-1] == "60 / 60"
    assert "(all 60 patients of the source)" in named(sections_shift.shift(told), "Header").caption
    ranking = sections_performance.discrimination(told)
    made = named(ranking, "By image")
    assert made.header[2] == "its patients"
    assert made.rows[0][2] == "60"
    assert any(
        "AUROC here (60 patients) less that at the source (60" in t.caption for t in ranking.tables
    )


def test_the_formula_stands_beside_the_resampling():
    told = material()
    rows = named(sections_performance.discrimination(told), "The same AUROC").rows
    for cohort, r in zip(("source", "target"), rows, strict=True):
        one = next(o for o in told.report["performance"] if (o["metric"], o["cohort"], o["level"]) == (
            "auroc", cohort, "image"))  # fmt: skip
        ends = {"value": one["value"], "lower": one["formula_lower"], "upper": one["formula_upper"]}
        assert (r[1], r[2]) == (page.span(one), page.span(ends))


def test_why_it_is_lower_only_where_it_is():
    told = material()
    (row,) = told.report["mix"]
    for value, words in ((0.1, "Why the AUROC is lower"), (-0.1, "What makes up the difference")):
        row["drop"] = {"value": value, "lower": value, "upper": value}
        row |= {"mix": None, "rest": None, "effective": 40.0}
        tables = sections_performance.discrimination(told).tables
        assert any(t.caption.startswith(words) for t in tables)


def test_rates_have_wilsons_interval_by_patient():
    told = material()
    made = sections_performance.threshold(told)
    rows = {r[0]: r for r in named(made, "The same rates").rows}
    assert "Wilson by patient" in named(made, "The same rates").header
    one = next(r for r in told.report["performance"] if (r["metric"], r["cohort"], r["level"]) == (
        "ppv", "target", "image"))  # fmt: skip
    wanted = {"value": one["value"], "lower": one["formula_lower"], "upper": one["formula_upper"]}
    assert rows["ppv, here"][2] == page.span(wanted)
    measures = {r[0]: r[1] for r in named(made, "Other measures").rows}
    mine = told.report["calibration"][0]["measures"]["lr_positive"]
    assert measures["likelihood ratio of a flag (1 tells nothing)"] == page.span(mine)
    by_patient = named(made, "By patient")
    assert "flagged if any image is" in by_patient.caption
    assert by_patient.rows[-1][0] == "alerts per 100 patients"


def test_where_every_patient_has_it_only_the_note_stands_by_patient():
    told = material()
    rows = [r for r in told.report["performance"] if r["level"] == "image"]
    rows.append({"cohort": "target", "site": "all", "level": "patient", "metric": "auroc", "class": "1",
                 "value": None, "lower": None, "upper": None, "n": 60, "patients": 60, "events": 60,
                 "note": "Not computable: one kind of patient only."})  # fmt: skip
    told = material(performance=rows, patients_never={"1": 0})
    made = named(sections_performance.discrimination(told), "By patient")
    assert [r[3] for r in made.rows] == ["Not computable: one kind of patient only."]
    assert not any(
        t.caption.startswith("By patient") for t in sections_performance.threshold(told).tables
    )
    lead = dict(sections.lead(told.report))
    assert lead["What limits this answer?"].startswith("Every patient here has finding")


def test_groups_have_one_table_a_measure_and_name_the_few():
    told = material()
    made = sections_groups.groups(told)
    assert max(len(t.header) for t in made.tables) == 6
    assert [t.caption.split(" by group")[0] for t in made.tables] == [
        "AUROC", "sensitivity", "specificity and observed / expected"]  # fmt: skip
    assert any("Too few to say: site d (<5 patients), quality" in f.caption for f in made.figures)


def test_useless_sets_have_no_figure():
    told = material()
    part = told.report["abstention"]
    assert sections_sets.uncertainty(told).figures
    part |= {"unsure_percent": 100.0, "caution": "Promise. The sets are useless here: too few."}
    part["rule"]["patients"] = ["<5", 6]
    made = sections_sets.uncertainty(told)
    assert made.words[0] == "The sets are useless here: every one holds several answers. Promise."
    assert not made.figures
    assert [t.caption for t in made.tables] == ["Errors when only the surest answers are given"]
    assert "<5 patients without finding, 6 patients with finding; so few" in made.words[-1]
    part |= {"unsure_percent": 50.0, "rule": {"patients": [60, 60]}, "caution": "Careful.",
             "unsure": {"lower": 0.4, "upper": 0.6}}  # fmt: skip
    made = sections_sets.uncertainty(told)
    assert made.words[0] == "Careful."
    assert "50.0 % (40.0 to 60.0) of the pictures get several" in made.words[1]
    assert "so few" not in made.words[-1]
    assert made.tables[0].rows[1][0] == "without finding"


def test_an_update_that_would_turn_the_model_round_is_not_offered():
    told = material()
    told.report["calibration"][0]["update"] = {"note": "No update is offered: it turns round."}
    points = sections_percentages.calibration(told).points
    assert "finding: No update is offered: it turns round." in points
    assert not any("fitted to all" in p for p in points)


def remedy(name, start, patients, value):
    return {"remedy": name, "start": start, "mode": "linear", "labelled_patients": patients, "value": value,
            "lower": value - 0.05, "upper": value + 0.05, "images": 474, "note": ""}  # fmt: skip


def test_equal_baselines_and_near_budgets_are_shown_once():
    rows = []
    for name, other in (("a", 0.6), ("b", 0.62)):
        rows += [remedy(name, "original model", 0, 0.4), remedy(name, "pixels", 200, 0.7),
                 remedy(name, "pixels", 214, 0.71), remedy(name, "pixels", 100, 0.65),
                 remedy(name, "scratch", 214, other), remedy(name, "pretrained", 214, 0.8)]  # fmt: skip
    told = [
        (r["remedy"], r["start"], r["labelled_patients"]) for r in sections_remedies.merged(rows)
    ]
    assert told == [("every remedy", "original model", 0), ("every remedy", "pixels", 214),
                    ("every remedy", "pixels", 100), ("a", "scratch", 214), ("a", "pretrained", 214),
                    ("b", "scratch", 214), ("b", "pretrained", 214)]  # fmt: skip
    one = sections_remedies.merged(rows[:6])
    assert {r["remedy"] for r in one} == {"a"}
    assert len(one) == 5
    made = sections_remedies.remedies(
        material(remedies={"rows": rows, "reach": [], "source_auroc": 0.9})
    )
    assert made.tables[0].header[3] == "n, images judged"
    assert any(w.startswith("Starts: 'pixels'") for w in made.words)


def texts(svg):
    """Words of a picture with their place from the top."""
    out = {}
    for one in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        spot = re.search(r"translate\(([-\d.]+) ([-\d.]+)\)", one.get("transform", ""))
        y = float(spot[2]) if spot else float(one.get("y", 0))
        out["".join(one.itertext()).strip()] = y
    return out


def test_names_beside_lines_cover_no_other():
    many = [curves.Line(f"line {k}", [10, 100], [0.5, 0.80 + 0.001 * k]) for k in range(6)]
    levels = [(0.801, "floor"), (0.2, "original")]
    picture = curves.lines("l", many, "Lines that end together.", ("x", "y"), levels, direct=True)
    places = texts(picture)
    mine = sorted(places[n] for n in [f"line {k}" for k in range(6)] + ["floor", "original"])
    assert min(np.diff(mine)) > 9
    assert mine == sorted(mine)
    assert mine[0] > 0


def test_marks_of_a_logarithmic_axis_do_not_touch():
    assert curves._apart([10, 20, 50, 100, 200, 214]) == [10, 20, 50, 100, 214]
    assert curves._apart([5.0]) == [5.0]
    assert len(curves._apart([2.0**k for k in range(20)])) == curves.MOST_TICKS


@pytest.mark.parametrize(
    ("line", "words"), [(0.75, "\N{MINUS SIGN}1.06, below the axis"), (0.2, "0.30")]
)
def test_net_benefit_shows_the_working_threshold(line, words):
    x = [0.05, 0.2, 0.5, 0.75]
    curve = {"threshold": x, "model": [0.45, 0.30, -0.1, -1.06], "lower": None, "upper": None,
             "treat_all": [0.44, 0.32, -0.07, -1.1]}  # fmt: skip
    picture = curves.decision("d", curve, line)
    assert f"the model there: {words}" in texts(picture)


def hidden(value):
    """The same report with every count of the parts that may hide theirs as text."""
    told = copy.deepcopy(value)
    for step in told["flow"]:
        step |= {"images": "<5", "patients": "not shown"}
    for r in told["abstention"]["coverage"]:
        r |= dict.fromkeys(("patients", "covered", "empty", "single", "unsure"), "<5")
    told["abstention"]["rule"]["patients"] = ["<5", "not shown"]
    for one in told["calibration"]:
        points = one["bands"]["points"]
        for key in ("n", "events", "patients"):
            points[key] = ["<5"] * len(points[key])
        one["bands"] |= {"events": "<5", "patients": "not shown"}
    for r in told["groups"]["rows"]:
        r |= dict.fromkeys(("images", "patients", "patients_with"), "not shown")
    for r in told["performance"]:
        r |= dict.fromkeys(("n", "patients", "events"), "<5")
    told["shift"]["columns"] = [{"column": "tone_10", "kind": "number", "note": "Not compared: an older run."},
                                {"column": "view", "kind": "levels", "levels": ["AP"], "source_share": [0.5],
                                 "target_share": [0.5], "unseen": [["PA", "<5"]], "cramers_v": 0.1}]  # fmt: skip
    return told


def test_hidden_counts_are_shown_as_they_come(tmp_path):
    found, *rest = reporting.made()
    told = hidden(found)
    schema.check({**told, "schema": schema.SCHEMA})
    words = reporting.Reader(html_of(sections.page_of(Material(told, *rest)))).words
    assert "Not compared: an older run." in words
    assert "images in the cohort <5 not shown" in words
    for name, write in (("tables", sections_tables_write), ("card", card_of)):
        write(tmp_path / name, told)


def sections_tables_write(folder, told):
    from medssl.evaluate.report.sections_tables import write_tables

    write_tables(folder, told)
    assert "<5" in (folder / "coverage.csv").read_text()


def card_of(_, told):
    from medssl.evaluate.report.sections_card import card_text

    assert "Model card" in card_text(told)
