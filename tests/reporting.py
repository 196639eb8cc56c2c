"""Whole reports of made hospitals, computed once per test run, and a reader of their pages."""

import functools
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import hospitals
import pyarrow as pa

from medssl import runs
from medssl.config import EvaluateConfig
from medssl.evaluate import evaluate as room
from medssl.evaluate import pack
from medssl.evaluate.plain import plain
from medssl.evaluate.report import write as report

QUICK = EvaluateConfig(resamples=100, permutations=99, cv_repeats=1, pdf=False)
MONTHS = ["2031-01", "2031-02", "2031-03", "2031-04", "2031-05"]
VOID = {"meta", "br", "hr", "img", "link", "input", "wbr"}
REMEDIES = {
    "rows": [
        {"remedy": "local labels", "start": s, "mode": m, "labelled_patients": n, "value": v,
         "lower": v - 0.05, "upper": v + 0.05, "images": 140, "note": "",
         **({} if n == 0 else {"against_original": v - 0.6, "against_original_lower": v - 0.7,
                               "against_original_upper": v - 0.5, "against_original_p": 0.01})}
        for s, m, n, v in (("original model", "", 0, 0.6), ("micle", "linear", 10, 0.65),
                           ("micle", "linear", 40, 0.9), ("scratch", "linear", 10, 0.5),
                           ("scratch", "linear", 40, 0.7))
    ],
    "reach": [
        {"remedy": "local labels", "start": "micle", "mode": "linear", "patients": 40, "lower": 10,
         "upper": None, "most_tried": 40},
        {"remedy": "local labels", "start": "scratch", "mode": "linear", "patients": None,
         "lower": 40, "upper": None, "most_tried": 40},
    ],
    "source_auroc": 0.88,
}  # fmt: skip


@functools.cache
def made(kind="binary"):
    """Report, reference, here and question of one made evaluation, before it is written."""
    classes = 3 if kind == "multi" else 2
    source = hospitals.source(classes=classes)
    here = hospitals.target(
        patients=60, skill=0.8, shift=0.7, classes=classes,
        months=MONTHS if kind == "binary" else None,
    )  # fmt: skip
    asked = hospitals.question(classes=classes, label_table=kind != "unlabelled")
    if kind == "binary":
        here = _with_sites(here)
    if kind == "multi-label":
        here = _with_answers(here)
        lines = {"0": 0.5, "1": 0.5}
        asked = replace(asked, thresholds=lines)
        parts = (
            replace(a, thresholds=lines, exclusive=False)
            for a in (source.answers, source.validation)
        )
        source = replace(source, **dict(zip(("answers", "validation"), parts, strict=True)))
    if kind == "unlabelled":
        here = hospitals.relabel(here, [None] * len(here.patient))
    if kind == "one class":
        here = hospitals.relabel(here, ["1"] * len(here.patient))
    if kind == "pack":
        told = plain(pack.summary_of(source, QUICK))
        source = replace(source, answers=None, validation=None, embeddings=None,
                         embedded_patient=None, embedded_row=None, pack=told, key=())  # fmt: skip
    kept = []
    before = report.write
    with tempfile.TemporaryDirectory() as folder:
        try:
            report.write = lambda out, *parts: kept.append(parts)
            room.evaluate(asked, source, here, QUICK, Path(folder))
        finally:
            report.write = before
    return kept[0]


def _with_sites(here):
    """Three sites, of which one has three patients."""
    whose = [int(p[-4:]) for p in here.predictions.column("patient_id").to_pylist()]
    names = ["d" if p < 3 else "b" if p % 2 else "c" for p in whose]
    tables = [
        t.set_column(t.column_names.index("site"), "site", pa.array(names, pa.string()))
        for t in (here.predictions, here.pictures)
    ]
    return replace(here, predictions=tables[0], pictures=tables[1])


def _with_answers(here):
    """Both classes are questions of their own; every tenth answer is missing."""
    label = here.predictions.column("label").to_pylist()
    table = here.predictions
    for name in ("0", "1"):
        values = [None if k % 10 == 0 else v == name for k, v in enumerate(label)]
        table = table.append_column(f"label_{name}", pa.array(values, pa.bool_()))
    return replace(here, predictions=table)


def renamed(value, names):
    """The same data under other names; the only key that is a name is class 1."""
    if isinstance(value, dict):
        return {names["1"] if k == "1" else k: renamed(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [renamed(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def hostile(name, site=None, level=None, target=None):
    """The binary report with strangers' names for the class, the site, a level and the target."""
    told, source, here, asked = made()
    site, level, target = (other or name for other in (site, level, target))
    error_at = told["abstention"]["selective"]
    told = renamed(told, {"1": name, "b": site, "F": level, "finding": target})
    told["abstention"]["selective"] = error_at
    table = here.predictions.rename_columns(
        [
            f"{runs.SCORE}{name}" if c == f"{runs.SCORE}1" else c
            for c in here.predictions.column_names
        ]
    )
    place = table.column_names.index("label")
    label = [name if v == "1" else v for v in table.column("label").to_pylist()]
    table = table.set_column(place, "label", pa.array(label, pa.string()))
    asked = replace(asked, target=target, classes=("0", name), thresholds={name: 0.5})
    return told, source, replace(here, predictions=table), asked


class Reader(HTMLParser):
    """What a page is made of: elements with their attributes, in order, and visible text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open, self.crossed = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in {"style", "title"}:
            self.text.append(data)

    def all(self, tag):
        return [a for t, a in self.elements if t == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())
