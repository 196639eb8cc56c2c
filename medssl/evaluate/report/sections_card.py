"""The model card that an evaluation writes: what the report knows of the model, in the card's terms."""

import re
from typing import Any

from medssl.evaluate.performance import MACRO
from medssl.evaluate.report.card import Card, Link, Measure, Site, Threshold, model_card
from medssl.evaluate.report.page import clean, finding

Row = dict[str, Any]
DIGEST = re.compile(r"[0-9a-f]{64}")
MEASURED = (
    "macro_auroc",
    "auroc",
    "sensitivity",
    "specificity",
    "observed_over_expected",
    "calibration_slope",
)
NO_CHAIN = "It was made from no other weights."
UNKNOWN_CHAIN = (
    "The weights that it was made from are named in its own run; this report was not told them."
)
LIMITS = (
    "Its percentages and thresholds are those of the source hospital.",
    "It was judged on stored pictures of the past, not in use.",
)


def card_text(report: Row) -> str | None:
    """Return CARD.md, or None where the digest of the weights is not known.

    Args:
        report: the plain report.
    """
    digest = str(report["provenance"].get("classifier", ""))
    if not DIGEST.fullmatch(digest):
        return None
    about = report["model"]
    chain = tuple(
        Link(str(c["name"]), str(c["sha256"]), str(c["made_by"])) for c in about.get("chain", [])
    )
    text = model_card(
        Card(
            name=clean(report["source"]["name"]) or clean(report["target"]) or "classifier",
            sha256=digest,
            written=str(report["provenance"].get("written", "not recorded")),
            software=f"medssl {report['provenance'].get('medssl', '(version not recorded)')}",
            target=clean(report["target"]) or "(no name)",
            classes=tuple(report["classes"]),
            thresholds=_thresholds(report),
            chain=chain,
            training=_training(about),
            preprocessing=tuple((k, str(v)) for k, v in about.get("decode", {}).items()),
            performance=_performance(report),
            groups=_groups(report),
            verdict=report["verdict"]["answer"],
            reasons=tuple(report["verdict"]["reasons"]),
            limits=(*LIMITS, *report["notes"]),
            least=report["settings"]["min_cell_patients"],
        )
    )
    # An empty chain here means "not told", which is another thing than "none".
    return text if chain else text.replace(NO_CHAIN, UNKNOWN_CHAIN)


def _thresholds(report: Row) -> tuple[Threshold, ...]:
    origin = f"validation patients of the source, rule {clean(report['threshold_rule'])}"
    return tuple(
        Threshold(finding(report, name), min(max(value, 0.0), 1.0), origin)
        for name, value in report["thresholds"].items()
    )


def _training(about: Row) -> tuple[Site, ...]:
    sites = about.get("trained_sites", [])
    if not sites or "patients_seen" not in about:
        return ()
    return (
        Site(
            ", ".join(map(str, sites)),
            int(about["patients_seen"]),
            int(about.get("pictures_seen", 0)),
        ),
    )


def _performance(report: Row) -> tuple[Measure, ...]:
    whose = {
        "source": "source, held-out",
        "target": f"new hospital ({', '.join(report['cohort']['sites'])})",
    }
    return tuple(
        _measure(report, r, whose[r["cohort"]])
        for r in report["performance"]
        if r["metric"] in MEASURED and r["site"] == "all" and r["level"] == "image"
        if isinstance(r["patients"], int)
    )


def _groups(report: Row) -> tuple[Measure, ...]:
    return tuple(
        _measure(report, r, f"{r['group']}: {r['level']}")
        for r in report["groups"]["rows"]
        if r["metric"] == "auroc" and isinstance(r["patients"], int)
    )


def _measure(report: Row, row: Row, where: str) -> Measure:
    name = row["metric"].replace("_", " ")
    outcome = row["class"] if row["class"] == MACRO else finding(report, row["class"])
    ends = (row.get("value"), row.get("lower"), row.get("upper"))
    return Measure(name, outcome, where, *ends, row["patients"], row.get("note") or "")
