"""Each rule of the verdict, with the numbers that make it fire and those that just do not."""

import pytest

from medssl.config import EvaluateConfig
from medssl.evaluate import verdict as room

CONFIG = EvaluateConfig()


def row(metric, value, lower, upper, site="all", level="image"):
    return {"metric": metric, "cohort": "target", "site": site, "class": "1", "value": value,
            "lower": lower, "upper": upper, "note": "", "level": level}  # fmt: skip


def group(value, lower, upper):
    return {"metric": "sensitivity", "group": "sex", "level": "F", "class": "1", "value": value,
            "lower": lower, "upper": upper}  # fmt: skip


def judged(slope, oe):
    """One class after a local update, on patients it did not see."""
    limits = [dict(zip(("value", "lower", "upper"), v, strict=True)) for v in (slope, oe)]
    method = {"method": "intercept", "slope": limits[0], "oe": limits[1]}
    return {"class": "1", "best": "intercept", "methods": [method]}


def evidence(auroc=(0.85, 0.80, 0.90), slope=(1.0, 0.85, 1.15), oe=(1.0, 0.9, 1.1), **more):
    table = [
        row("auroc", *auroc),
        row("calibration_slope", *slope),
        row("observed_over_expected", *oe),
    ]
    table += more.pop("extra", [])
    base = {
        "headline": "auroc",
        "groups": [],
        "judged": [],
        "join": 1.0,
        "with_event": 100,
        "without": 200,
    }
    return room.Evidence(table=table, **{**base, **more})


def decide(**changes):
    return room.decide(evidence(**changes), CONFIG)


def test_use_as_is():
    got = decide()
    assert (got.answer, got.rule) == (room.AS_IS, 3)


def test_upper_limit_below_the_floor():
    assert decide(auroc=(0.6, 0.5, 0.749)).answer == room.DO_NOT_USE
    assert decide(auroc=(0.7, 0.63, 0.77)).answer == room.CANNOT_TELL


def test_not_rejecting_is_not_proof():
    got = decide(auroc=(0.80, 0.749, 0.85))
    assert got.answer == room.CANNOT_TELL
    assert "lower limit" in got.reasons[0]
    assert decide(auroc=(0.80, 0.75, 0.85)).answer == room.AS_IS


def test_one_bad_site_is_enough():
    bad = row("auroc", 0.6, 0.5, 0.7, site="c")
    got = decide(extra=[bad])
    assert got.answer == room.DO_NOT_USE
    assert "site c" in got.reasons[0]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"join": None}, "no labels"),
        ({"join": 0.5}, "50 %"),
        ({"with_event": 49}, "49 patients with"),
        ({"without": 3}, "<5 patients without"),
        ({"auroc": (0.9, 0.8, 0.96)}, "wider"),
        ({"auroc": (None, None, None)}, "cannot be given"),
    ],
)
def test_cannot_tell(change, part):
    got = decide(**change)
    assert got.answer == room.CANNOT_TELL
    assert any(part in reason for reason in got.reasons)


def test_local_adjustment_must_be_shown_to_help():
    off = {"slope": (0.5, 0.4, 0.6)}
    good = judged((1.02, 0.9, 1.15), (0.99, 0.85, 1.12))
    got = decide(**off, judged=[good])
    assert got.answer == room.ADJUST
    assert "1.02 (0.90 to 1.15)" in " ".join(got.reasons)
    unsure = judged((1.02, 0.7, 1.4), (0.99, 0.85, 1.12))
    assert decide(**off, judged=[unsure]).answer == room.CANNOT_TELL
    assert decide(**off, judged=[unsure]).rule == 4
    assert room.RULES[4].startswith(room.CANNOT_TELL)
    assert decide(**off, judged=[good, {"class": "2", "note": "few"}]).answer == room.CANNOT_TELL
    assert decide(**off).answer == room.CANNOT_TELL


def test_harm_at_the_threshold_is_enough():
    bad = row("net_benefit_gain", -0.05, -0.09, -0.01)
    got = decide(extra=[bad])
    assert got.answer == room.DO_NOT_USE
    assert "0.050 per image (0.010 to 0.090)" in got.reasons[0]
    assert decide(extra=[row("net_benefit_gain", -0.05, -0.09, 0.01)]).answer == room.AS_IS
    assert decide(extra=[row("net_benefit_gain", None, None, None)]).answer == room.AS_IS
    assert decide(extra=[bad], without=9).answer == room.CANNOT_TELL


def test_one_bad_group_is_enough():
    got = decide(groups=[group(0.3, 0.2, 0.49)])
    assert got.answer == room.DO_NOT_USE
    assert "sex = F" in got.reasons[0]
    doubt = decide(groups=[group(0.45, 0.3, 0.6)])
    assert doubt.answer == room.CANNOT_TELL
    assert decide(groups=[group(0.55, 0.3, 0.7)]).answer == room.CANNOT_TELL
    assert decide(groups=[group(0.65, 0.5, 0.7)]).answer == room.AS_IS
    few = {**group(None, None, None), "note": "too few to say"}
    got = decide(groups=[few])
    assert got.answer == room.AS_IS
    assert "too few patients to say: sex = F" in got.reasons[-1]


def test_the_whole_hospital_has_a_sensitivity_too():
    """Headers that say nothing leave no group; the floor holds for all pictures as well."""
    got = decide(extra=[row("sensitivity", 0.07, 0.05, 0.09)])
    assert got.answer == room.DO_NOT_USE
    assert "all pictures here" in got.reasons[0]
    assert decide(extra=[row("sensitivity", 0.55, 0.45, 0.65)]).answer == room.CANNOT_TELL
    assert decide(extra=[row("sensitivity", 0.65, 0.55, 0.75)]).answer == room.AS_IS


def test_patients_do_not_speak_twice():
    """The rows by patient answer another question; the verdict reads those by image."""
    assert decide(extra=[row("auroc", 0.5, 0.4, 0.6, level="patient")]).answer == room.AS_IS


def test_safety_comes_before_doubt():
    """Too few patients do not hide an upper limit below the floor."""
    assert decide(auroc=(0.5, 0.4, 0.6), with_event=10).answer == room.DO_NOT_USE


@pytest.mark.parametrize(
    "change",
    [{"floor_auroc": 0.95}, {"margin_slope": (0.99, 1.01)}, {"margin_oe": (0.99, 1.01)}, {"min_events": 500},
     {"max_width": 0.05}],
)  # fmt: skip
def test_every_floor_bites(change):
    assert room.decide(evidence(), CONFIG).answer == room.AS_IS
    assert room.decide(evidence(), EvaluateConfig(**change)).answer != room.AS_IS


def test_label_join_bites():
    assert (
        room.decide(evidence(join=0.95), EvaluateConfig(min_label_join=0.99)).answer
        == room.CANNOT_TELL
    )
