"""The sentences of the first page: each case of each, and how a number is told."""

import pytest
import reporting
from sklearn.metrics import roc_auc_score

from medssl.evaluate.report import page
from medssl.evaluate.report import sections_answer as answer
from medssl.evaluate.report import sections_next as following


def test_numbers_of_the_first_page_are_those_of_the_rows():
    """By another path: AUROC, O/E and prevalence from the predictions themselves."""
    found, _, here, asked = reporting.made()
    answers = here.answers(asked)
    y, p = answers.of(1)
    auroc = roc_auc_score(y, p)
    words = answer.ranking(found)
    assert f"in {round(100 * auroc)} of 100 pairs: AUROC {auroc:.2f} (95 % interval" in words
    assert "60 patients" in words
    words = answer.percentages(found)
    assert f"foretell finding = 1 in {100 * p.mean():.0f} %".replace(" = 1", "") in words
    assert (
        f"{100 * y.mean():.0f} % had it (observed over expected {y.sum() / p.sum():.2f} (" in words
    )


def row(metric, value, lower, upper, **more):
    base = {"cohort": "target", "site": "all", "level": "image", "metric": metric, "class": "1", "n": 100,
            "patients": 60, "events": 40, "note": ""}  # fmt: skip
    return {**base, "value": value, "lower": lower, "upper": upper, **more}


def small(**changes):
    """A report of a few keys, for the sentences."""
    base = {
        "target": "pneumonia", "classes": ["0", "1"], "thresholds": {"1": 0.5}, "headline": "auroc",
        "verdict": {"answer": "cannot tell", "rule": 1, "reasons": []},
        "cohort": {"sites": ["b"], "images": 100, "patients": 60, "labelled": 100},
        "source": {"sites": ["a"]},
        "performance": [row("auroc", 0.8, 0.75, 0.85), row("prevalence", 0.3, 0.2, 0.4),
                        row("observed_over_expected", 1.0, 0.9, 1.1), row("calibration_slope", 1.0, 0.9, 1.1)],
        "differences": [], "calibration": [], "groups": {"rows": [], "notes": [], "worst": None},
        "shift": {"embedding": {"note": "Too few."}, "domain": {"note": ""}, "unlike": {"note": ""}},
        "shortcuts": {"sentences": []}, "sample_size": [], "remedies": None,
        "settings": {"margin_oe": [0.8, 1.25], "margin_slope": [0.8, 1.25], "floor_auroc": 0.75},
    }  # fmt: skip
    return {**base, **changes}


@pytest.mark.parametrize(
    ("interval", "part"),
    [
        ((0.4, 0.3, 0.45), "worse than a coin"),
        ((0.6, 0.45, 0.7), "is not excluded"),
        ((0.8, 0.7, 0.9), "80 of 100 pairs"),
        ((0.999, 0.99, 1.0), "more than 99 of 100 pairs"),
        ((None, None, None), "could not be computed"),
        ((0.8, None, None), "without an interval"),
    ],
)
def test_ranking_in_words(interval, part):
    assert part in answer.ranking(small(performance=[row("auroc", *interval, note="one class")]))


def test_a_difference_that_chance_explains_is_no_proof():
    one = {
        "metric": "auroc",
        "class": "1",
        "value": -0.1,
        "lower": -0.2,
        "upper": 0.0,
        "p": 0.06,
        "note": "",
    }
    words = answer.ranking(small(differences=[one]))
    assert "chance could explain it, which proves nothing" in words
    assert "p = 0.060" in words
    assert "more than chance explains" in answer.ranking(small(differences=[{**one, "p": 1e-9}]))
    assert "p < 0.001" in answer.ranking(small(differences=[{**one, "p": 1e-9}]))


@pytest.mark.parametrize(
    ("oe", "slope", "parts"),
    [
        (
            (1.0, 0.9, 1.1),
            (1.0, 0.9, 1.1),
            ["On average they are right", "as far apart as they should"],
        ),
        ((0.5, 0.4, 0.6), (1.0, 0.9, 1.1), ["They are too high", "foretell pneumonia in 60 %"]),
        ((2.0, 1.5, 2.5), (1.0, 0.9, 1.1), ["They are too low", "foretell pneumonia in 15 %"]),
        ((1.0, 0.5, 1.5), (1.0, 0.9, 1.1), ["It is open whether they are right"]),
        ((1.0, 0.9, 1.1), (0.5, 0.4, 0.6), ["high ones are too high and low ones too low"]),
        ((1.0, 0.9, 1.1), (2.0, 1.5, 2.5), ["high ones should be higher"]),
        ((1.0, 0.9, 1.1), (-0.1, -0.2, -0.01), ["a higher one does not mean a higher chance"]),
        ((None, None, None), (None, None, None), ["not computable"]),
    ],
)
def test_percentages_in_words(oe, slope, parts):
    rows = [row("prevalence", 0.3, 0.2, 0.4), row("observed_over_expected", *oe),
            row("calibration_slope", *slope)]  # fmt: skip
    words = answer.percentages(small(performance=rows))
    assert all(part in words for part in parts)


def test_several_classes_name_the_worst():
    rows = []
    for name, oe in (("a", 1.0), ("b", 0.2), ("c", 2.0)):
        rows += [row("prevalence", 0.3, 0.2, 0.4, **{"class": name}),
                 row("observed_over_expected", oe, oe - 0.1, oe + 0.1, **{"class": name}),
                 row("calibration_slope", 1.0, 0.9, 1.1, **{"class": name})]  # fmt: skip
    words = answer.percentages(small(performance=rows, thresholds=dict.fromkeys("abc", 0.5)))
    assert "For 1 of 3 classes" in words
    assert "Farthest off is b" in words


def test_an_update_that_helps_is_told_as_such():
    def judged(oe, slope):
        parts = {
            k: {"value": v, "lower": v - 0.05, "upper": v + 0.05}
            for k, v in (("oe", oe), ("slope", slope))
        }
        return [
            {
                "class": "1",
                "judged": {
                    "best": "intercept+slope",
                    "methods": [{"method": "intercept+slope", **parts}],
                },
            }
        ]

    rows = [row("prevalence", 0.3, 0.2, 0.4), row("observed_over_expected", 0.5, 0.4, 0.6)]
    good = answer.percentages(small(performance=rows, calibration=judged(1.0, 1.0)))
    assert "would bring them inside" in good
    bad = answer.percentages(small(performance=rows, calibration=judged(1.0, 0.5)))
    assert "would not surely mend them" in bad


def test_for_whom_in_words():
    worst = {"group": "sex", "level": "F", "class": "1", "value": 0.6, "lower": 0.5, "upper": 0.7, "patients": 30,
             "difference": -0.1, "difference_lower": -0.2, "difference_upper": 0.0, "p_adjusted": 0.2}  # fmt: skip
    words = answer.for_whom(small(groups={"worst": worst}))
    assert "sex = F: AUROC 0.60 (95 % interval 0.50 to 0.70), 30 patients" in words
    assert "p = 0.200 after Holm: chance could explain it" in words
    sure = answer.for_whom(small(groups={"worst": {**worst, "p_adjusted": 0.0001}}))
    assert "p < 0.001 after Holm: more than chance explains" in sure
    assert "not proof" in answer.for_whom(small())


def test_likeness_in_words():
    shift = {"embedding": {"p": 0.4}, "domain": {"auroc": 0.52}, "unlike": {"note": "few"}}
    words = answer.likeness(small(shift=shift))
    assert "does not prove that there is none (p = 0.400)" in words
    assert "in 52 of 100 pairs" in words
    assert answer.likeness(small(shift={**shift, "embedding": {"p": 0.001}})).startswith(
        "No, they differ"
    )


NEED = [{"class": "1", "targets": {"auroc": 0.1}, "after": {"criteria": [
    {"name": "auroc", "needed": 459, "had": 305, "enough": False, "target": 0.1},
    {"name": "slope", "needed": 52, "had": 50, "enough": False, "target": 0.4},
    {"name": "oe", "needed": 9000, "had": 305, "enough": False, "target": 0.4}]}}]  # fmt: skip
NO = {"answer": "do not use here", "rule": 0, "reasons": []}
YES = {"answer": "use as is", "rule": 3, "reasons": []}


def steps(**changes):
    return " ".join(following.next_steps(small(**changes)))


def test_next_steps_by_verdict():
    words = steps(sample_size=NEED, verdict=YES)
    assert "label about 154 more patients (459 in all)" in words
    assert "9,000" not in words
    assert "evaluate again at regular times" in words
    adjust = steps(verdict={"answer": "use after local adjustment", "rule": 2, "reasons": []})
    assert adjust.startswith("Recalibrate")
    never = steps(sample_size=NEED, verdict=NO)
    assert "label" not in never
    assert "interval" not in never
    unlabelled = {"sites": ["b"], "images": 100, "patients": 60, "labelled": 0}
    assert "Have a sample of local patients labelled" in steps(cohort=unlabelled)


def test_cannot_tell_names_what_failed():
    rows = [row("auroc", 0.91, 0.88, 0.94), row("observed_over_expected", 1.0, 0.9, 1.1),
            row("calibration_slope", 1.038, 0.848, 1.254), row("sensitivity", 0.6, 0.4, 0.8)]  # fmt: skip
    words = steps(performance=rows, sample_size=NEED)
    assert (
        "What failed: the calibration slope, 1.038 (0.848 to 1.254); asked: 0.8 to 1.25 (an interval no wider "
        "than 0.40 takes about 52 patients; 50 were had). Judge on new patients" in words
    )
    strict = {**small()["settings"], "floor_sensitivity": 0.5, "max_width": 0.05}
    words = steps(performance=rows, sample_size=NEED, settings=strict)
    assert "the AUROC, 0.910 (0.880 to 0.940); asked: at least 0.75, 0.05 wide at most (an" in words
    assert "about 459 patients" in words
    assert "the sensitivity at the threshold, 0.600 (0.400 to 0.800); asked: at least 0.5" in words
    assert "What failed is named under the verdict" in steps(performance=rows[:2])


def remedy(start, value, low, high, name="local labels"):
    return {"remedy": name, "start": start, "mode": "linear", "labelled_patients": 214, "value": value,
            "lower": low, "upper": high, "images": 474, "note": ""}  # fmt: skip


def test_the_best_remedy_by_name_and_floor():
    words = steps(remedies=reporting.REMEDIES)
    assert (
        "the best is local labels (micle linear) with 40 locally labelled patients: AUROC 0.90 (95 % interval "
        "0.85 to 0.95), its whole interval at or above the floor of 0.75" in words
    )
    assert (
        "micle (local labels) reached the source's level with 40 locally labelled patients" in words
    )
    assert "10 to more than were tried" in words
    none = {**reporting.REMEDIES, "reach": reporting.REMEDIES["reach"][1:]}
    assert "None reached the source's level with up to 40" in steps(remedies=none)
    part = {"rows": [remedy("pretrained", 0.78, 0.7, 0.86)], "reach": [], "source_auroc": None}
    assert "above the floor of 0.75, but not its whole interval" in steps(remedies=part)
    part["rows"] = [remedy("pretrained", 0.7, 0.6, 0.8)]
    assert "below the floor of 0.75" in steps(remedies=part)
    part["rows"] = [remedy("scratch", 0.7, 0.6, 0.8)]
    assert "local labels (scratch linear)" in steps(remedies=part)
    part["rows"] = [remedy("original model", 0.7, 0.6, 0.8)]
    assert "Of the remedies" not in steps(remedies=part)


def test_what_does_as_well_without_an_encoder():
    rows = [remedy("pretrained", 0.81, 0.77, 0.86), remedy("pixels", 0.82, 0.77, 0.87)]
    part = {"rows": rows, "reach": [], "source_auroc": 0.99}
    tones = {"encoder": "grey-level histogram", "value": 0.80}
    cuts = {"sentences": ["The grey-level histogram alone tells it."], "simple": [tones]}
    words = steps(remedies=part, shortcuts=cuts, verdict=NO)
    assert "the best is local labels (pretrained linear)" in words
    assert "Raw pixels (0.82) and the grey-level histogram (0.80) do as well" in words
    assert "have a radiologist say whether that is disease or exposure" in words
    assert "Before training anew" not in words
    # Farther below it is a warning only, and without training proposed not even that.
    worse = {**cuts, "simple": [{**tones, "value": 0.7}]}
    part = {**part, "rows": rows[:1]}
    assert "Before training anew" in steps(remedies=part, shortcuts=worse)
    assert "Before training anew" not in steps(shortcuts=worse)
    one = {**cuts, "simple": [{**tones, "value": 0.8}]}
    assert "The grey-level histogram (0.80) does as well" in steps(remedies=part, shortcuts=one)


def test_what_limits_the_answer():
    theirs = row("auroc", 0.9, 0.8, 0.95, cohort="source", patients=9)
    few = small(performance=[*small()["performance"], theirs])
    assert "The source's own numbers rest on 9 patients" in following.limits_of_answer(few)
    assert "9 patients only: weak ground" in answer.ranking(few)
    many = small(performance=[{**theirs, "patients": 50}])
    assert "numbers rest" not in following.limits_of_answer(many)
    assert answer.is_few("<5")
    assert not answer.is_few(None)
    words = following.limits_of_answer(small(patients_never={"1": 0}))
    assert "Every patient here has pneumonia: this report says which pictures show it" in words
    assert "false alarms in patients without" in words
    assert "Every patient" not in following.limits_of_answer(small(patients_never={"1": "<5"}))
    known = [{"attribute": "sex", "level": "F", "patients": 9},
             {"attribute": "age band", "level": "not stated", "patients": 60},
             {"attribute": "view", "level": "AP", "source_patients": 9}]  # fmt: skip
    words = following.limits_of_answer(small(participants=known))
    assert "Unknown here: age, maker, view;" in words


def test_settings_that_moved_are_told():
    changed = {"from_default": [["min_events", 10, 50], ["pdf", False, True]], "from_before": []}
    told = small(settings_changed=changed)
    assert following.settings_words(told) == (
        "Settings that differ from the default: min_events 10 (default 50)."
    )
    assert following.floor_words(told) == "The floor was set before looking."
    changed = {**changed, "from_before": [["floor_auroc", 0.7, 0.75], ["since", None, "2031-01"]]}
    told = small(settings_changed=changed)
    assert following.settings_words(told).endswith(
        "; changed after a first report: floor_auroc 0.7 (before 0.75), since none (before 2031-01)."
    )
    assert following.floor_words(told) == "The floor is 0.75."
    assert following.floor_words(small()) == "The floor is 0.75."
    only = small(settings_changed={**changed, "from_default": []})
    assert following.settings_words(only).startswith("Changed after a first report")


def test_groups_too_few_to_say_come_first():
    few = [{"group": "site", "level": "CS", "class": "1", "patients": n, "note": "too few to say"}
           for n in (16, 16)] + [{"group": "sex", "level": "F", "class": "1", "patients": "<5",
                                  "note": "too few to say"}]  # fmt: skip
    told = small(groups={"rows": few, "notes": [], "worst": None})
    assert answer.for_whom(told).startswith(
        "Too few to say: site CS (16 patients), sex F (<5 patients). Nothing can be said"
    )
    assert answer.too_few(told, "other") == ""
    many = [{**few[0], "level": str(k)} for k in range(8)]
    assert "and 2 more" in answer.too_few(small(groups={"rows": many}))


def test_no_update_is_told_where_none_is_offered():
    one = {"class": "1", "update": {"note": "No update is offered: it would turn the model round."},
           "judged": {"best": "x", "methods": []}}  # fmt: skip
    rows = [row("prevalence", 0.3, 0.2, 0.4), row("observed_over_expected", 0.5, 0.4, 0.6)]
    words = answer.percentages(small(performance=rows, calibration=[one]))
    assert words.endswith("No update is offered: it would turn the model round.")
    assert "judged on patients" not in words


def test_one_rounding_for_an_interval():
    near = {"value": 0.994, "lower": 0.989, "upper": 0.997}
    assert page.span(near, 2) == "0.994 (0.989 to 0.997)"
    assert answer.auroc(near) == "AUROC 0.994 (95 % interval 0.989 to 0.997)"
    assert (
        page.span({"value": 0.9998, "lower": 0.98, "upper": 1.0}, 2) == "0.9998 (0.9800 to 1.0000)"
    )


def test_classes_in_words():
    assert page.in_class(small(), "1") == "with pneumonia"
    assert page.in_class(small(), "0") == "without pneumonia"
    assert page.in_class(small(classes=["a", "b"], thresholds={"b": 0.5}), "a") == "a"
    assert page.people(1) == "1 patient"
    assert page.people("<5") == "<5 patients"


def test_numbers_as_they_are_told():
    assert page.p_words(0) == page.p_words(0.00099) == "p < 0.001"
    assert page.p_words(0.001) == "p = 0.001"
    assert page.p_words(None) == "-"
    assert (page.p_cell(0.04), page.p_cell(1e-9)) == ("0.040", "< 0.001")
    assert page.number(-0.5, 2) == "\N{MINUS SIGN}0.50"
    assert page.number(-0.0001, 2) == "0.00"
    assert page.number(12345) == "12,345"
    assert page.number("<5") == "<5"
    assert page.number(None) == "-"
    assert page.number(0.9965, 2) == "0.997"
    assert page.number(1.0, 2) == "1.00"
    assert page.percent(0.004) == "0.4 %"
    assert page.percent(0.5) == "50 %"
    assert page.of_hundred(0.999) == "more than 99"
    assert page.of_hundred(0.001) == "fewer than 1"
    assert page.span({"value": None, "note": "one class"}) == "one class"
    assert page.span({"value": 0.5, "lower": 0.4, "upper": 0.6}, 2) == "0.50 (0.40 to 0.60)"
    assert page.interval(None) == "-"
    assert page.interval({"value": 0.5, "lower": None, "note": "few"}) == "0.500 (no interval: few)"
