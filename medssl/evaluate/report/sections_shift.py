"""Sections about what differs: pictures, headers and answers before labels; and over time."""

from typing import Any

from medssl.evaluate.performance import find
from medssl.evaluate.report.figures import BLACK, GREY, Bar, Mark, forest
from medssl.evaluate.report.figures_curves import Line, lines
from medssl.evaluate.report.page import (
    NONE,
    Figure,
    Material,
    Section,
    Table,
    absent,
    clean,
    finding,
    in_class,
    number,
    p_cell,
    p_words,
    people,
    percent,
    ran,
    section,
    span,
    table,
)

Row = dict[str, Any]
MOST_COLUMNS = 25
MOST_LEVELS = 6


def shift(material: Material) -> Section:
    """Return every comparison of the hospitals that needs no label here."""
    report = material.report
    found = report["shift"]
    title = "The pictures, before any label is read: are they like those it learnt from?"
    if found.get("note"):
        return absent("shift", title, f"Not run: {found['note']}")
    words = [
        "A small p says that the two hospitals differ, not that the model is worse; a large p does not "
        "prove that they are alike.",
        _detectable(found["detectable"]),
    ]
    if ran(found["labels"], "classes"):
        words.append(found["labels"].get("caution") or "")
    tables = [_tests(report), _columns(report), _labels(report)]
    notes = [f"{name}: {part['note']}" for name, part in _parts(found).items() if part.get("note")]
    return section("shift", title, words, [_column_figure(report)], tables, notes)


def _parts(found: Row) -> dict[str, Row]:
    names = {
        "pictures as the encoder sees them (MMD)": "embedding",
        "telling the hospitals apart": "domain",
        "Fréchet distance": "frechet",
        "smallest shift that would be found": "detectable",
        "images unlike the source's": "unlike",
        "the model's answers": "outputs",
        "how common each class seems": "labels",
    }
    return {words: found[key] for words, key in names.items()}


def _detectable(part: Row) -> str:
    if part.get("shift") is None:
        return ""
    return (
        f"With {number(part['source_patients'])} and {number(part['target_patients'])} patients the test "
        f"finds, in {percent(part['power'])} of studies, a mean shift of {number(part['shift'], 2)} "
        f"standard deviations along each of {part['dims']} axes; smaller ones can be missed."
    )


def _tests(report: Row) -> Table:
    found, rows = report["shift"], []
    one = found["embedding"]
    if ran(one, "p"):
        rows.append(
            ("pictures as the encoder sees them (MMD²)", number(one["statistic"]), "0", one)
        )
    one = found["domain"]
    if ran(one, "auroc"):
        chance = f"up to {number(one['chance'])} by chance"
        rows.append(("telling a patient's hospital (AUROC)", number(one["auroc"]), chance, one))
    one = found["frechet"]
    if ran(one, "distance"):
        within = f"{number(one['floor'], 2)} between halves of the source"
        rows.append(("Fréchet distance", number(one["distance"], 2), within, {}))
    one = found["unlike"]
    if ran(one, "share"):
        shown = {
            k: None if one["share"][k] is None else 100 * one["share"][k]
            for k in ("value", "lower", "upper")
        }
        told = span({**shown, "note": one["share"]["note"]}, 1)
        name = f"% of images stranger than {one['beyond']:g} % of the source's"
        rows.append((name, told, f"{100 - one['beyond']:g}", {}))
    for k, name in enumerate(found["outputs"].get("classes", [])):
        if ran(found["outputs"], "ks"):
            p = {**found["outputs"], "p": found["outputs"]["adjusted_p"][k]}
            rows.append(
                (
                    f"chances given for {finding(report, name)} (KS distance)",
                    number(found["outputs"]["ks"][k]),
                    "0",
                    p,
                )
            )
    cells = [(a, b, c, p_cell(p.get("p")), _counts(p)) for a, b, c, p in rows]
    header = (
        "what is compared",
        "found",
        "if the hospitals were alike",
        "p",
        "patients: source / here",
    )
    caption = (
        "Pictures and answers of the two hospitals. Pictures: embeddings of the source's validation and test "
        "patients, 1,000 at most; answers: its held-out test patients"
    )
    return table(caption, header, cells)


def _counts(r: Row) -> str:
    if r.get("source_patients") is None:
        return NONE
    return f"{number(r['source_patients'])} / {number(r.get('target_patients'))}"


def sizes(report: Row) -> list[tuple[Row, float]]:
    """Return columns with the size of their difference, the largest first."""
    out = []
    for r in report["shift"]["columns"]:
        size = r.get("cramers_v") if r.get("kind") == "levels" else r.get("smd")
        if size is not None:
            out.append((r, float(size)))
    return sorted(out, key=lambda pair: -abs(pair[1]))


def _columns(report: Row) -> Table:
    found = {id(r): size for r, size in sizes(report)}
    rows = []
    for r in sorted(report["shift"]["columns"], key=lambda r: -abs(found.get(id(r), 0.0))):
        size = number(found.get(id(r)), 2)
        kind = {"levels": "V", "number": "SMD"}.get(r.get("kind", ""), NONE)
        detail = _levels(r) if r.get("kind") == "levels" else ""
        words = detail or r.get("note") or ""
        rows.append((r["column"].replace("_", " "), size, kind, p_cell(r.get("p_adjusted")), words))
    header = (
        "column",
        "difference",
        "unit",
        "p (Benjamini-Hochberg)",
        "share of patients: source / here",
    )
    known = next((r for r in report["shift"]["columns"] if r.get("source_patients")), None)
    whose = (
        "" if known is None else f" (all {number(known['source_patients'])} patients of the source)"
    )
    caption = f"Header fields and pixel figures{whose}, the largest difference first"
    return table(caption, header, rows)


def _levels(r: Row) -> str:
    shares = zip(
        r.get("levels", []), r.get("source_share", []), r.get("target_share", []), strict=False
    )
    told = [f"{clean(n, 30)} {percent(a)} / {percent(b)}" for n, a, b in shares]
    more = f"; and {len(told) - MOST_LEVELS} more" if len(told) > MOST_LEVELS else ""
    return "; ".join(told[:MOST_LEVELS]) + more


def _column_figure(report: Row) -> Figure | None:
    found = sizes(report)[:MOST_COLUMNS]
    if not found:
        return None
    bars = [
        Bar(f"{r['column'].replace('_', ' ')} ({'V' if r['kind'] == 'levels' else 'SMD'})", s)
        for r, s in found
    ]
    marks = (
        Mark(0, "no difference", BLACK),
        Mark(0.2, "0.2: small", GREY, "--"),
        Mark(-0.2, "", GREY, "--"),
    )
    words = "Size of the difference by column, the largest first; the numbers are in the table."
    picture = forest(
        "columns",
        bars,
        words,
        "standardised difference (SMD) or Cramér's V",
        marks[:2],
        (-0.5, 1),
    )
    return Figure(picture, "How far header fields (V, 0 to 1) and pixel figures (SMD) lie apart.")


def _labels(report: Row) -> Table:
    part = report["shift"]["labels"]
    if not ran(part, "classes"):
        return table("", (), ())
    rows = []
    for k, name in enumerate(part["classes"]):
        cells = [in_class(report, name), percent(part["source_share"][k])]
        for key in ("bbse", "em"):
            value = part[key].get("value")
            if value is None:
                cells.append(part[key].get("note") or NONE)
                continue
            low, high = part[key].get("lower"), part[key].get("upper")
            limits = (
                "" if low is None or high is None else f" ({percent(low[k])} to {percent(high[k])})"
            )
            cells.append(percent(value[k]) + limits)
        cells.append(percent(_labelled(report, name)))
        rows.append(cells)
    header = (
        "class",
        "source, held-out",
        "here, by the pattern of answers (BBSE)",
        "here, by their size (EM)",
        "here, labelled",
    )
    row = next(iter(find(report["performance"], report["headline"], "source")), {})
    caption = "How common each class seems here without labels, and is with them"
    return table(f"{caption} (source: {people(row.get('patients'))})", header, rows)


def _labelled(report: Row, name: str) -> float | None:
    """Return the share of a class among the labelled pictures; of two the other has the rest."""
    found = {r["class"]: r.get("value") for r in find(report["performance"], "prevalence")}
    if name in found:
        return found[name]
    other = next(iter(found.values()), None)
    two = len(report["classes"]) == 2 and report["exclusive"] and other is not None
    return 1 - float(other) if two and other is not None else None


def time(material: Material) -> Section:
    """Return observed over expected by month, and the cumulative sum."""
    report = material.report
    title = "Time: does it drift?"
    found = [d for d in report["drift"] if d.get("months")]
    if not found:
        why = next((d["note"] for d in report["drift"] if d.get("note")), "Not run.")
        return absent("time", title, why)
    words = [
        "Months are counted from the first one; true dates stay in a private file. Above 1 more had the "
        "finding than was foretold. The running sum of what came less what was foretold crosses its limit "
        "in 5 % of records without any drift.",
    ]
    figures: list[Figure | None] = []
    tables, notes = [], []
    for n, one in enumerate(found):
        name = finding(report, one["class"])
        figures += [_months(one, n, name), _cusum(one, n, name)]
        tables.append(_month_table(one, name))
        notes += _drift_notes(one, name)
    return section("time", title, words, figures, tables, notes)


def _months(one: Row, n: int, name: str) -> Figure | None:
    shown = [m for m in one["months"] if m["oe"] is not None]
    if not shown:
        return None
    x, y, low, high = ([m[k] for m in shown] for k in ("month", "oe", "lower", "upper"))
    words = f"Observed over expected by month for {name}; 1 is right."
    names = ("month", "observed / expected")
    line = Line("here, 95 % interval", x, y, low, high)
    picture = lines(f"months-{n}", [line], words, names, [(1.0, "as foretold")], whole=True)
    return Figure(picture, f"{name}: observed over expected by month.")


def _cusum(one: Row, n: int, name: str) -> Figure | None:
    part = one.get("cusum", {})
    if not ran(part, "path"):
        return None
    limit = part.get("limit")
    levels = [] if limit is None else [(limit, "limit"), (-limit, "limit")]
    names = ("month", "running sum, in its sd")
    words = f"Running sum of observed less foretold for {name}, with its limits."
    picture = lines(f"cusum-{n}", [Line("observed less foretold", part["months"], part["path"])],
                    words, names, levels, whole=True)  # fmt: skip
    return Figure(picture, f"{name}: running sum with its limits.")


def _month_table(one: Row, name: str) -> Table:
    rows = [
        (str(m["month"]), number(m["n"]), number(m["patients"]), number(m["events"]), number(m["expected"], 1),
         span({"value": m["oe"], "lower": m["lower"], "upper": m["upper"], "note": m["note"]}, 2),
         number(m["auroc"], 2))
        for m in one["months"]
    ]  # fmt: skip
    header = ("month", "images", "patients", "with it", "foretold", "observed / expected", "AUROC")
    return table(f"{name} by month", header, rows)


def _drift_notes(one: Row, name: str) -> list[str]:
    out = []
    trend, total = one.get("trend", {}), one.get("cusum", {})
    if trend.get("per_month") is not None:
        told = span({**trend, "value": trend["per_month"]}, 3)
        out.append(
            f"{name}: the log-odds beyond what is foretold change by {told} a month, {p_words(trend['p'])}."
        )
    if ran(total, "path"):
        crossed = total["crossed"]
        when = (
            "crosses no limit" if crossed is None else f"first crosses its limit in month {crossed}"
        )
        out.append(f"{name}: the running sum {when} ({p_words(total['p'])}).")
    if one["undated"]:
        out.append(
            f"{name}: {number(one['undated'])} labelled pictures have no date and are left out."
        )
    parts = (one, trend, total)
    return out + [f"{name}: {p['note']}" for p in parts if p.get("note")]
