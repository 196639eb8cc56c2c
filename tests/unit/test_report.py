"""The report's page: complete, readable by all, true to its numbers, unmoved by strangers' names."""

import copy
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import reporting
from sklearn.metrics import roc_curve

from medssl.evaluate.report import figures, page
from medssl.evaluate.report import figures_curves as curves
from medssl.evaluate.report import sections_pictures as pictures
from medssl.evaluate.report import write as report
from medssl.evaluate.report.checklists import SECTIONS
from medssl.evaluate.verdict import RULES

KINDS = ["binary", "multi", "unlabelled", "one class", "pack", "multi-label"]
BANNER = "Research use only. Not for diagnosis."
HOSTILE = [
    (
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "\u202eevil\u2066",
        "{{ page.title }}",
    ),
    ("x" * 5000, "]]></title></style><b>", "a\x00b\x1b[31mc", "الورم 肿瘤"),
    (r"$\frac{1}{0}_^$", "=cmd()", "$x_1$", "<!-- --><b>&amp;"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages by kind, each written once."""
    found = {}

    def of(kind):
        if kind not in found:
            out = tmp_path_factory.mktemp("report")
            told, *rest = reporting.made(kind)
            report.write(out, told, *rest)
            found[kind] = (out / "report.html").read_text(encoding="utf-8")
        return found[kind]

    return of


def told(kind="binary"):
    return copy.deepcopy(reporting.made(kind)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_is_whole(pages, kind):
    text = pages(kind)
    read = reporting.Reader(text)
    assert not read.crossed
    assert not read.open
    assert read.all("html") == [{"lang": "en"}]
    assert len(read.all("title")) >= 1
    assert len(read.all("h1")) == 1
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    anchors = [a["href"] for a in read.all("a")]
    assert anchors == [f"#{name}" for name in SECTIONS]
    assert set(SECTIONS) <= set(ids)
    order = [text.index(f'<section id="{name}"') for name in SECTIONS]
    assert order == sorted(order)
    assert read.words.count(BANNER) == 2
    assert BANNER in text[text.index("@page") : text.index("</style>")]
    assert len(text.encode()) < (1_000_000 if kind == "multi" else 500_000)
    assert "nan" not in read.words.lower().split()
    assert "None" not in read.words.split()


@pytest.mark.parametrize("kind", KINDS)
def test_tables_and_pictures_can_be_read_aloud(pages, kind):
    read = reporting.Reader(pages(kind))
    tables = read.all("table")
    assert len(tables) == len(read.all("caption")) == len(read.all("thead")) > 5
    assert all(a.get("scope") in {"col", "row"} for a in read.all("th"))
    drawn = read.all("svg")
    assert len(drawn) == len(read.all("figcaption")) > 0
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_fetched_and_nothing_runs(pages, kind):
    text = pages(kind)
    read = reporting.Reader(text)
    assert not {"script", "link", "img", "iframe", "object", "image"} & {
        t for t, _ in read.elements
    }
    for _, attributes in read.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "xlink:href", "src"):
            assert attributes.get(name, "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import", text)


def test_every_drawn_reference_is_there(pages):
    """Ids are renamed per figure; a use or a clip that points nowhere would leave a blank."""
    text = pages("binary")
    ids = set(re.findall(r'\bid="([^"]*)"', text))
    used = set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', text))
    assert len(used) > 50
    assert {a or b for a, b in used} <= ids


def test_pictures_are_xml_and_the_same_twice(pages, tmp_path):
    for one in re.findall(r"<svg.*?</svg>", pages("binary"), re.DOTALL):
        assert ET.fromstring(one).tag.endswith("svg")
        assert one.index("<title>") < one.index("<g ")
    report.write(tmp_path, *reporting.made())
    assert (tmp_path / "report.html").read_text() == pages("binary")


def test_what_was_not_run_says_why(pages):
    words = reporting.Reader(pages("unlabelled")).words
    assert "Not run: no picture here has a usable label" in words
    assert "Verdict: cannot tell" in words
    assert "Have a sample of local patients labelled" in words
    read = reporting.Reader(pages("pack")).words
    assert "the pack holds no embeddings" in read
    assert "Not compared." in read
    assert (
        "either all labelled pictures here have it or none"
        in reporting.Reader(pages("one class")).words
    )


def test_every_site_has_its_row(pages):
    words = reporting.Reader(pages("binary")).words
    for part in (
        "b here AUROC finding 0.",
        "c here AUROC finding 0.",
        "d here AUROC fewer than 20 patients: too few to say",
    ):
        assert part in words
    bars = {b.label: b for b in pictures.rank_bars(told())}
    assert set(bars) == {
        "source, held-out (n = 60)",
        "here (n = 60)",
        "here: b (n = 29)",
        # Site d has three patients: with the total, c's number would tell it.
        "here: c",
    }
    assert bars["source, held-out (n = 60)"].source
    assert not bars["here: b (n = 29)"].source


def test_the_pack_has_a_roc_curve_too(pages):
    assert 'id="roc-0-' in pages("pack")
    assert "source, held-out" in pages("pack")


def test_the_rule_that_fired_is_marked_in_words(pages):
    for kind in KINDS:
        words, rule = reporting.Reader(pages(kind)).words, told(kind)["verdict"]["rule"]
        assert words.count("This rule fired") == 1
        assert f"This rule fired: {' '.join(RULES[rule].split())}" in words


def test_remedies_and_drift_have_their_pictures(tmp_path):
    found, *rest = reporting.made()
    report.write(tmp_path, {**found, "remedies": reporting.REMEDIES}, *rest)
    text = (tmp_path / "report.html").read_text()
    words = reporting.Reader(text).words
    for name in ("remedies", "months-0", "cusum-0"):
        assert f'id="{name}-figure_1"' in text
    assert "more than 40" in words
    assert "2031-0" not in text


@pytest.mark.parametrize("names", HOSTILE)
def test_strangers_names_are_only_words(tmp_path, names):
    report.write(tmp_path, *reporting.hostile(*names))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    read = reporting.Reader(text)
    assert not read.crossed
    assert not {"script", "img", "b"} & {t for t, _ in read.elements}
    assert not any(n.startswith("on") for _, a in read.elements for n in a)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", text)
    assert "x" * 1300 not in text
    for one in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(one)
    assert all(page.clean(name)[:20] in read.words for name in names)
    # Marks of mathematics are drawn as they are.
    drawn = "".join(re.findall(r"<text.*?</text>", text))
    assert names[0] != r"$\frac{1}{0}_^$" or "$x_1$" in drawn
    card = (tmp_path / "CARD.md").read_text(encoding="utf-8")
    assert "<script" not in card
    assert "<img" not in card


def test_columns_of_numbers_stand_to_the_right():
    cells = [
        ("1", "0.5 (0.4 to 0.6)", "< 0.001", "<5", "yes"),
        ("2", "\N{MINUS SIGN}0.1", "0.5", "-", "3"),
    ]
    made = page.table("t", ("a", "b", "c", "d", "e"), cells)
    assert made.numeric == (False, True, True, True, False)


def test_a_class_that_never_changes_goes_into_the_caption():
    made = page.table("t", ("a", "class", "b"), [("x", "c", "1"), ("y", "c", "2")])
    assert (made.caption, made.header, made.rows) == ("t: c", ("a", "b"), (("x", "1"), ("y", "2")))
    kept = page.table("t", ("a", "class"), [("x", "c"), ("y", "d")])
    assert kept.header == ("a", "class")


def test_roc_points_against_another_library():
    g = np.random.default_rng(0)
    y = g.integers(0, 2, 80)
    p = np.round(g.random(80) + 0.3 * y, 1)
    x, rises = curves.roc_points(y, p)
    far, found, _ = roc_curve(y, p, drop_intermediate=False)
    np.testing.assert_allclose(np.c_[x, rises], np.c_[far, found])
    assert curves.roc_points(np.ones(3, int), p[:3]) is None
    assert curves.roc_points(np.empty(0, int), np.empty(0)) is None
    y, p = np.r_[y, g.integers(0, 2, 3000)], np.r_[p, g.random(3000)]
    x, rises = curves.roc_points(y, p)
    assert x.size == curves.GRID
    np.testing.assert_allclose(rises, np.interp(x, *roc_curve(y, p, drop_intermediate=False)[:2]))


def test_a_forest_without_rows_is_still_a_picture():
    assert "<svg" in figures.forest("f", [], "Nothing to see here at all.", "x")


def test_side_by_side_takes_one_level():
    found = told()["performance"]
    table = report.side_by_side(found)
    assert [r["metric"] for r in table].count("AUROC") == 1
    mine = next(r for r in table if r["metric"] == "AUROC")
    wanted = next(
        r
        for r in found
        if r["metric"] == "auroc" and r["cohort"] == "target" and r["level"] == "image"
    )
    assert mine["target"].startswith(f"{wanted['value']:.3f} (")
    by_patient = next(r for r in report.side_by_side(found, "patient") if r["metric"] == "AUROC")
    assert by_patient["target"] != mine["target"]
