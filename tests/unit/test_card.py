"""The model card: every fact is there, every gap is named, and no name becomes markup.

The oracle is another program's reading of the text: a CommonMark parser with GitHub's tables.
"""

import re
import unicodedata
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from medssl.evaluate.report import card as room

SHA = "0123456789abcdef" * 4
# What GitHub links without any brackets (GFM 6.9), and what it takes for a mention.
BARE = re.compile(r"(https?|ftp)://|www\.|[\w.+-]+@[\w-]|@\w", re.IGNORECASE)
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
AUROC = room.Measure("AUROC", "ill", "hospital_b", 0.8123, 0.7, 0.9, 240)
FACTS = room.Card(
    name="chest-1",
    sha256=SHA,
    written="2026-01-02",
    software="medssl 0.1.0",
    target="effusion",
    classes=("no", "ill"),
    thresholds=(room.Threshold("ill", 0.25, "source's validation patients, sensitivity 0.9"),),
    chain=(room.Link("encoder", SHA[::-1], "pretraining by simclr"),),
    training=(room.Site("hospital_a", 300, 900), room.Site("small", 19, 44)),
    preprocessing=(("size", "96"), ("scaling", "auto")),
    performance=(AUROC, replace(AUROC, name="slope", value=None, note="one class only")),
    groups=(replace(AUROC, where="sex F", lower=None, upper=None, note="12 patients"),),
    verdict="cannot tell",
    reasons=("AUROC 0.70 (0.63 to 0.77): its lower limit is below the floor.",),
    limits=("Adults only.",),
)
NASTY = (
    "a|b", "`code`", "``", "<script>alert(1)</script>", "<!-- x", "&lt;b&gt;", "&amp;",
    "[t](https://evil.example)", "![i](x)", "[r]: https://e.example", "[^1]", "<https://e.example>",
    "https://evil.example/x", "www.evil.example", "WWW.E.ORG", "a@b.example", "@someone", "a\nb",
    "a\r\n\r\n# head", "a\u2028b", "\\", "\\|", "a\\", "*b*", "__b__", "~~s~~", "~~~", "# h", "- x",
    "+ x", "1. x", "12) x", "===", "---", "***", "> q", ": d", "$x$", "{{ x }}", "{% raw %}", "| --- |",
    "\u202eabc", "a\u200bb", "a\x00b", "a\x1b[31m", "  x  ", "ü é 中", "x" * 500, "", " \n", "\ud800",
)  # fmt: skip
texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(NASTY),
    st.text(alphabet="|`<>[]()!*_~#&\\:/@w.-+=1 \n\tab${}\"'", max_size=40),
)


def leaves(tokens):
    """Every token, nested ones included."""
    for token in tokens:
        yield token
        yield from leaves(token.children or [])


def read_inline(token):
    """The words of one inline token; anything but words fails."""
    kinds = {t.type for t in token.children}
    assert kinds <= {"text", "text_special"}, kinds
    return "".join(t.content for t in token.children)


def plain(value, limit=room.LIMIT):
    """What a reader must see, worked out character by character."""
    shown = ""
    for c in str(value):
        if c.isspace():
            shown += "" if shown.endswith(" ") else " "
        elif unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co"):
            shown += "\ufffd"
        else:
            shown += c
    shown = shown.strip(" ")
    shown = shown if len(shown) <= limit else shown[: limit - 1] + "…"
    return shown or "(empty)"


@given(texts)
def test_a_name_is_read_back_as_words_anywhere(text):
    safe = room.escape(text)
    assert "\n" not in safe
    document = (
        f"# {safe}\n\n{safe}\n\n- {safe}\n- b\n\n| h | i |\n| --- | --- |\n| {safe} | {safe} |\n"
    )
    tokens = PARSER.parse(document)
    words = [read_inline(t).replace("\u200b", "") for t in tokens if t.type == "inline"]
    expected = plain(text)
    assert words == [expected, expected, expected, "b", "h", "i", expected, expected]
    for one in tokens:
        assert one.type not in {"html_block", "fence", "code_block", "hr", "blockquote_open"}
    assert sum(t.type == "bullet_list_open" for t in tokens) == 1
    assert not any(t.type == "ordered_list_open" for t in tokens)


@pytest.mark.parametrize("text", NASTY)
def test_known_tricks(text):
    test_a_name_is_read_back_as_words_anywhere.hypothesis.inner_test(text)


@given(texts)
def test_no_bare_address_becomes_a_link(text):
    (token,) = (t for t in PARSER.parse(f"x {room.escape(text)}") if t.type == "inline")
    assert not BARE.search(read_inline(token))


def test_plain_names_stay_readable():
    for name in ("hospital A", "CT-scan 1.5", "pneumonia (left)", "0.75", "a, b; c", "größer ≥ 3"):
        assert room.escape(name) == name
    assert room.escape("site_a") == "site\\_a"
    assert room.escape(3) == "3"
    assert room.escape("abcdef", 4) == "abc…"


def headings(text):
    tokens = PARSER.parse(text)
    return [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]


def cells(text):
    """Each table as rows of plain words."""
    tables, row = [], []
    tokens = PARSER.parse(text)
    for i, token in enumerate(tokens):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            row = []
        elif token.type in {"td_open", "th_open"}:
            row.append(read_inline(tokens[i + 1]))
        elif token.type == "tr_close":
            tables[-1].append(row)
    return tables


def test_every_fact_is_there():
    text = room.model_card(FACTS)
    what, chain, thresholds, training, prepared, performance, groups = cells(text)
    assert ["SHA-256 of the weights", SHA] in what
    assert ["classes", "no, ill"] in what
    assert chain[1:] == [["encoder", SHA[::-1], "pretraining by simclr"]]
    assert thresholds[1:] == [["ill", "0.250", "source's validation patients, sensitivity 0.9"]]
    assert training[1:] == [["hospital_a", "300", "900"], ["small", "fewer than 20", "-"]]
    assert prepared[1:] == [["size", "96"], ["scaling", "auto"]]
    assert performance[1:] == [
        ["AUROC", "ill", "hospital_b", "0.812 (0.700 to 0.900)", "240"],
        ["slope", "ill", "hospital_b", "not computable: one class only", "240"],
    ]
    assert groups[1:] == [["AUROC", "ill", "sex F", "0.812 (no interval: 12 patients)", "240"]]
    assert "last evaluated: **cannot tell**." in text
    assert "- AUROC 0.70 (0.63 to 0.77): its lower limit is below the floor." in text
    assert "- Adults only." in text
    assert text.count("TO BE WRITTEN BY A PERSON:") == 5
    assert text.count(room.BANNER) == 2
    assert text.endswith("\n")
    assert room.model_card(FACTS) == text


def test_what_is_not_known_is_said():
    bare = replace(
        FACTS, thresholds=(), chain=(), training=(), preprocessing=(), performance=(), groups=(),
        verdict=None, reasons=(), limits=(),
    )  # fmt: skip
    text = room.model_card(bare)
    for words in (
        "It was made from no other weights.",
        "No threshold was chosen; it returns probabilities only.",
        "the training data; no counts were recorded.",
        "Nothing has been measured yet.",
        "No group was named before looking, so none was measured.",
        "None: it has not been evaluated at a new hospital.",
        "None was recorded; that does not mean that there is none.",
        "No setting was recorded.",
    ):
        assert words in text, words
    assert headings(text) == headings(room.model_card(FACTS))
    assert len(cells(text)) == 1


def test_numbers_without_notes():
    one = replace(AUROC, value=None)
    two = replace(AUROC, upper=None)
    text = room.model_card(replace(FACTS, performance=(one, two)))
    shown = [row[3] for row in cells(text)[5][1:]]
    assert shown == ["not computable", "0.812 (no interval)"]
    # A verdict without sentences, and a floor of zero patients: every count is shown.
    text = room.model_card(replace(FACTS, reasons=(), least=0))
    assert ["small", "19", "44"] in cells(text)[3]


@given(texts)
def test_strangers_names_change_no_structure(name):
    measure = replace(AUROC, name=name, outcome=name, where=name, value=None, note=name)
    facts = replace(
        FACTS,
        name=f"x{name}", written=name, software=name, target=f"x{name}", classes=(name, "ill"),
        thresholds=(room.Threshold(name, 0.5, name),), chain=(room.Link(name, SHA, name),),
        training=(room.Site(name, 30, 40),), preprocessing=((name, name),), performance=(measure,),
        groups=(measure,), verdict=name, reasons=(name, name), limits=(name,),
    )  # fmt: skip
    tokens = list(leaves(PARSER.parse(room.model_card(facts))))
    for token in tokens:
        assert token.type not in {
            "link_open", "image", "html_block", "html_inline", "code_inline", "code_block", "fence",
            "hr", "em_open", "s_open", "softbreak", "hardbreak", "ordered_list_open", "blockquote_open",
        }, token.type  # fmt: skip
    text = room.model_card(facts)
    assert headings(text)[1:] == headings(room.model_card(FACTS))[1:]
    assert [len(t) for t in cells(text)] == [7, 2, 2, 2, 2, 2, 2]
    bold = sum(t.type == "strong_open" for t in tokens)
    assert bold == sum(
        t.type == "strong_open" for t in leaves(PARSER.parse(room.model_card(FACTS)))
    )
    assert sum(t.type == "list_item_open" for t in tokens) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": " "}, "The model has no name"),
        ({"target": ""}, "The target has no name"),
        ({"classes": ()}, "names no class"),
        ({"sha256": SHA[1:]}, "64 hexadecimal digits"),
        ({"sha256": SHA.upper()}, "64 hexadecimal digits"),
        ({"sha256": SHA + "\n"}, "64 hexadecimal digits"),
        ({"chain": (room.Link("e", "", "x"),)}, "64 hexadecimal digits"),
        ({"thresholds": (room.Threshold("ill", 1.01, ""),)}, "threshold of 'ill' is 1.01"),
        ({"thresholds": (room.Threshold("ill", float("nan"), ""),)}, "threshold of 'ill' is nan"),
        ({"training": (room.Site("a", -1, 2),)}, "Site 'a' has a negative count"),
        ({"training": (room.Site("a", 1, -2),)}, "Site 'a' has a negative count"),
        ({"performance": (replace(AUROC, value=float("nan")),)}, "AUROC is not finite; pass None"),
        ({"groups": (replace(AUROC, upper=float("inf")),)}, "AUROC is not finite; pass None"),
        ({"groups": (replace(AUROC, lower=0.95),)}, "runs from 0.95 to 0.9; swap"),
        ({"groups": (replace(AUROC, patients=-1),)}, "has -1 patients"),
    ],
)
def test_impossible_facts_are_refused(change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        room.model_card(replace(FACTS, **change))


def test_facts_are_frozen():
    with pytest.raises(FrozenInstanceError):
        FACTS.name = "other"
