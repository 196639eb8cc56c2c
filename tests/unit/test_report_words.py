"""The sentences of the first page: each case of each, and how a number is told."""

import pytest
import reporting
from sklearn.metrics import roc_auc_score

from medssl.evaluate.report import page
from medssl.evaluate.report import sections_answer as answer


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


def test_next_steps():
    need = [{"class": "1", "targets": {"auroc": 0.1}, "after": {"criteria": [
        {"name": "auroc", "needed": 459, "had": 305, "enough": False},
        {"name": "oe", "needed": 9000, "had": 305, "enough": False}]}}]  # fmt: skip
    words = " ".join(answer.next_steps(small(sample_size=need)))
    assert "label about 154 more patients (459 in all)" in words
    assert "9,000" not in words
    remedy = " ".join(answer.next_steps(small(remedies=reporting.REMEDIES)))
    assert (
        "micle (local labels) reached the source's level with 40 locally labelled patients"
        in remedy
    )
    assert "10 to more than were tried" in remedy
    none = {**reporting.REMEDIES, "reach": reporting.REMEDIES["reach"][1:]}
    assert "none reached the source's level with up to 40" in " ".join(
        answer.next_steps(small(remedies=none))
    )
    as_is = small(verdict={"answer": "use as is", "rule": 3, "reasons": []})
    assert "evaluate again at regular times" in answer.next_steps(as_is)[0]
    adjust = small(verdict={"answer": "use after local adjustment", "rule": 2, "reasons": []})
    assert answer.next_steps(adjust)[0].startswith("Recalibrate")


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
