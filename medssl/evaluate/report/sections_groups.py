"""The section about groups: for whom does it hold."""

from typing import Any

from medssl.evaluate.report.figures import BLACK, ORANGE, Mark, dots, forest
from medssl.evaluate.report.page import (
    Figure,
    Material,
    Section,
    Table,
    clean,
    finding,
    number,
    p_cell,
    section,
    span,
    table,
    unmoved,
)
from medssl.evaluate.report.sections_answer import of_class, too_few
from medssl.evaluate.report.sections_performance import NAMES, NO_LABELS, shown
from medssl.evaluate.report.sections_pictures import group_bars

Row = dict[str, Any]
MOST_GROUPS = 40


def groups(material: Material) -> Section:
    """Return every pre-named group beside the rest."""
    report = material.report
    title = "Groups: for whom does it hold?"
    part, settings = report["groups"], report["settings"]
    if not part["rows"]:
        why = NO_LABELS if not report["cohort"]["labelled"] else "No group here has two levels."
        return Section(
            "groups", title, (why,), points=tuple(map(clean_note, part["notes"])), present=False
        )
    since = "The groups were named before looking. " if unmoved(report) else ""
    words = [
        f"{since}Fewer than {settings['min_cell_patients']} patients, or "
        f"fewer than {settings['min_cell_events']} with or without the finding, are 'too few to say'; "
        "counts of one to four are '<5'. p is adjusted after Holm over all groups: a small one says "
        "that the group differs from all others by more than chance; a large one is not proof that "
        "it is served alike.",
    ]
    figures = []
    for n, (_, name) in enumerate(shown(material)):
        bars = group_bars(report, "auroc", name)[:MOST_GROUPS]
        if bars:
            whole = of_class(report, "auroc", name)
            marks = [Mark(whole["value"], "all patients here", BLACK)] if whole else []
            told = f"AUROC by group for {finding(report, name)}; the numbers are in the table."
            picture = forest(f"groups-{n}", bars, told, "AUROC with 95 % interval", marks, (0.4, 1))
            caption = f"AUROC by group: {finding(report, name)}. {too_few(report, name)}"
            figures.append(Figure(picture, caption.strip()))
        figures += _sensitivity(report, name, n)
    tables = [_groups(report, "auroc"), _groups(report, "sensitivity"),
              _groups(report, "specificity", "observed_over_expected")]  # fmt: skip
    return section("groups", title, words, figures, tables, part["notes"])


def clean_note(text: str) -> str:
    """Return a note as a sentence that may be long."""
    return clean(text, 600)


def _sensitivity(report: Row, name: str, n: int) -> list[Figure]:
    bars = group_bars(report, "sensitivity", name)[:MOST_GROUPS]
    if not bars:
        return []
    floor = report["settings"]["floor_sensitivity"]
    rows = [b.label for b in bars]
    series: Any = {"sensitivity": [(b.value, b.lower, b.upper) for b in bars]}
    marks = (Mark(floor, "floor", ORANGE, "--"),)
    words = f"Sensitivity by group for {finding(report, name)}, with its floor of {floor:g}."
    picture = dots(f"sensitivity-{n}", rows, series, words, "sensitivity with 95 % interval", marks)
    return [
        Figure(picture, f"Sensitivity by group at the source's threshold: {finding(report, name)}.")
    ]


def _groups(report: Row, *metrics: str) -> Table:
    found: dict[tuple[str, str, str], dict[str, Row]] = {}
    for r in report["groups"]["rows"]:
        found.setdefault((r["group"], r["level"], r["class"]), {})[r["metric"]] = r
    rows = []
    compared = len(metrics) == 1
    for (group, level, name), by in found.items():
        first = by[metrics[0]]
        cells = [f"{clean(group)}: {clean(level)}", finding(report, name)]
        cells += [number(first["patients"]), number(first["patients_with"])]
        for metric in metrics:
            cells.append(span(by[metric]))
            if compared:
                cells += [span(by[metric], 3, "difference"), p_cell(by[metric].get("p_adjusted"))]
        rows.append(cells)
    header = ["group", "class", "patients", "with the finding"]
    for metric in metrics:
        words = NAMES[metric].split(" at ")[0]
        header += [words, "less all others", "p (Holm)"] if compared else [words]
    caption = " and ".join(NAMES[m].split(" at ")[0] for m in metrics)
    return table(f"{caption} by group: value (95 % interval)", header, rows)
