"""Each rule of the verdict, with the numbers that make it fire and those that just do not."""

import pytest

from medssl.config import EvaluateConfig
from medssl.evaluate import verdict as room

CONFIG = EvaluateConfig()


def row(metric, value, lower, upper, site="all"):
    return {"metric": metric, "cohort": "target", "site": site, "class": "1", "value": value,
            "lower": lower, "upper": upper, "note": ""}  # fmt: skip


def evidence(auroc=(0.85, 0.80, 0.90), slope=(1.0, 0.85, 1.15), oe=(1.0, 0.9, 1.1), **more):
    table = [
        row("auroc", *auroc),
        row("calibration_slope", *slope),
        row("observed_over_expected", *oe),
    ]
    table += more.pop("extra", [])
    base = {"headline": "auroc", "updated": [], "join": 1.0, "with_event": 100, "without": 200}
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
        ({"without": 3}, "3 patients without"),
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
    mended = [{"class": "1", "slope": 1.02, "oe": 0.99}]
    assert decide(**off, updated=mended).answer == room.ADJUST
    assert (
        decide(**off, updated=[{"class": "1", "slope": 0.5, "oe": 1.0}]).answer == room.CANNOT_TELL
    )
    assert decide(**off, updated=[{"class": "1", "note": "too few"}]).answer == room.CANNOT_TELL
    assert decide(**off).answer == room.CANNOT_TELL


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
