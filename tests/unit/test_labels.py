"""Label tables: text stays text, missing and uncertain are no negatives, and every row is accounted for."""

import csv
import json
import unicodedata
import zipfile
from collections import Counter, defaultdict
from datetime import date, datetime
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow.parquet as pq
import pytest
from conftest import SIZE
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medssl.cli import main
from medssl.cohort import labels, sheets
from medssl.cohort import split as split_room
from medssl.cohort.label_schema import UNCERTAIN, number_text, parse, read_schema
from medssl.cohort.privacy import normalise_id
from medssl.config import DecodeConfig, FinetuneConfig
from medssl.errors import NothingUsableError, UsageError
from medssl.finetune.task import make_task
from medssl.store import open_store

BORDER_IDS = (
    "007",
    "7",
    "1e5",
    "100000",
    "NA",
    "null",
    "TRUE",
    "True",
    "2024-01-02",
    "n/a",
    "ü 1",
    "患者",
)


def table_rows(path):
    return [row for _, row in sheets.numbered_rows(path)]


def run(*words):
    return main([str(w) for w in words])


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(rows)
    return path


def write_xlsx(path, rows, title="Sheet", formats=None):
    book = openpyxl.Workbook()
    page = book.active
    page.title = title
    for r, row in enumerate(rows, start=1):
        for c, value in enumerate(row, start=1):
            cell = page.cell(r, c)
            cell.value = value
            if isinstance(value, str) and not value.startswith("=F"):
                cell.data_type = "s"
            if formats and (r, c) in formats:
                cell.number_format = formats[r, c]
    book.save(path)
    return path


WRITERS = {".csv": write_csv, ".tsv": write_csv, ".xlsx": write_xlsx}


def rewritten(path, old, new, member="xl/worksheets/sheet1.xml"):
    """Replace bytes inside one member of a workbook."""
    with zipfile.ZipFile(path) as archive:
        parts = {n: archive.read(n) for n in archive.namelist()}
    assert old in parts[member]
    parts[member] = parts[member].replace(old, new)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


MAIN = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
PARTS = b"http://schemas.openxmlformats.org/officeDocument/2006/relationships"
KINDS = b"application/vnd.openxmlformats-officedocument.spreadsheetml."


def excel_made(path, rows, strings):
    """Write a workbook as Excel does, texts in a table of their own; no library has a hand in it."""
    packed = b"http://schemas.openxmlformats.org/package/2006/"
    parts = {
        "[Content_Types].xml": b'<Types xmlns="%scontent-types"><Default Extension="rels" ContentType='
        b'"application/vnd.openxmlformats-package.relationships+xml"/>%s</Types>'
        % (packed, b"".join(
            b'<Override PartName="/xl/%s.xml" ContentType="%s%s+xml"/>' % (part, KINDS, kind)
            for part, kind in ((b"workbook", b"sheet.main"), (b"worksheets/sheet1", b"worksheet"),
                               (b"sharedStrings", b"sharedStrings"))
        )),
        "_rels/.rels": b'<Relationships xmlns="%srelationships"><Relationship Id="r1" Type="%s/'
        b'officeDocument" Target="xl/workbook.xml"/></Relationships>' % (packed, PARTS),
        "xl/workbook.xml": b'<workbook xmlns="%s" xmlns:r="%s"><sheets><sheet name="S" sheetId="1" '
        b'r:id="r1"/></sheets></workbook>' % (MAIN, PARTS),
        "xl/_rels/workbook.xml.rels": b'<Relationships xmlns="%srelationships"><Relationship Id="r1" '
        b'Type="%s/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" '
        b'Type="%s/sharedStrings" Target="sharedStrings.xml"/></Relationships>'
        % (packed, PARTS, PARTS),
        "xl/worksheets/sheet1.xml": b'<worksheet xmlns="%s"><sheetData>%s</sheetData></worksheet>'
        % (MAIN, rows),
        "xl/sharedStrings.xml": b'<sst xmlns="%s">%s</sst>' % (MAIN, strings),
    }  # fmt: skip
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def refusal(call, *args, **kwargs):
    with pytest.raises(UsageError) as caught:
        call(*args, **kwargs)
    return caught.value


def pictures(folder, names):
    """Write one picture per name, 5 rows of 7, all different."""
    for k, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(k).integers(0, 255, (5, 7), dtype=np.uint8)
        Image.fromarray(values).save(path)


def hospital(tmp_path, owners):
    """Write a folder of pictures and the table that names each one's patient."""
    pictures(tmp_path / "s", owners)
    return write_csv(tmp_path / "who.csv", [("file", "patient_id"), *owners.items()])


def labels_by_patient(cohort, column):
    """Return {original patient: set of stored values}, from the two files a scan wrote."""
    with (cohort / "private" / "identifiers.csv").open(newline="", encoding="utf-8") as stream:
        owner = {r["image_id"]: r["patient_id"].removeprefix("'") for r in csv.DictReader(stream)}
    out = defaultdict(set)
    for row in pq.read_table(cohort / "labels.parquet").to_pylist():
        out[owner[row["image_id"]]].add(row[column])
    return dict(out)


# --- identifiers are text, whatever they look like ---


@pytest.mark.parametrize("ending", WRITERS)
def test_every_patient_gets_their_own_label(tmp_path, ending):
    """By the user's door: identifiers that a spreadsheet library would merge or lose."""
    who = hospital(tmp_path, {f"{k}.png": name for k, name in enumerate(BORDER_IDS)})
    answers = {name: f"answer {k}" for k, name in enumerate(BORDER_IDS)}
    table = WRITERS[ending](tmp_path / f"l{ending}", [("patient_id", "finding"), *answers.items()])
    words = ["--site", "s", "--table", who, "--labels", table, "--label", "finding"]
    assert run("scan", tmp_path / "s", *words, "--out", tmp_path / "c") == 0
    assert labels_by_patient(tmp_path / "c", "finding") == {n: {a} for n, a in answers.items()}
    told = json.loads((tmp_path / "c" / "cohort.json").read_text())["labels"][0]
    assert (told["rows"], told["joined"], told["orphans"]) == (12, 12, 0)


TEXT = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"), exclude_characters="_"),
    min_size=1,
    max_size=12,
)
NAMES = st.lists(st.sampled_from(BORDER_IDS) | TEXT, min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(NAMES, st.sampled_from(sorted(WRITERS)))
def test_identifiers_survive_every_kind_of_table(tmp_path_factory, names, ending):
    path = tmp_path_factory.mktemp("t") / f"t{ending}"
    WRITERS[ending](path, [("k", "patient_id"), *((f"r{k}", n) for k, n in enumerate(names))])
    assert [r["patient_id"] for r in table_rows(path)] == [n.strip() for n in names]


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=5, unique_by=normalise_id))
def test_only_the_same_identifier_joins(tmp_path_factory, names):
    """A row meets its own patient and no other; composed and decomposed letters are one."""
    names = [n for n in names if normalise_id(n)]
    path = tmp_path_factory.mktemp("t") / "t.csv"
    written = [unicodedata.normalize("NFD", n) for n in names]
    write_csv(path, [("patient_id", "finding"), *((n, f"v{k}") for k, n in enumerate(written))])
    if not names:
        return
    index = {"patient_id": {normalise_id(n): [(f"i{k}", -1)] for k, n in enumerate(names)}}
    found, _ = labels.join(path, index, {f"i{k}": 1 for k in range(len(names))}, ("finding",))
    assert found == {(f"i{k}", -1): {"finding": f"v{k}"} for k in range(len(names))}


# --- Excel ---


def test_cells_read_as_a_person_sees_them(tmp_path):
    rows = [
        ("text", "number", "date", "time", "flag", "padded", "share"),
        ("007", 7.0, date(2024, 1, 2), datetime(2024, 1, 2, 3, 4), True, 7, 0.1 + 0.2),
        ("1e5", 1e5, None, None, False, 1234, -2.5),
    ]
    path = write_xlsx(tmp_path / "t.xlsx", rows, formats={(2, 6): "000", (3, 6): "000"})
    first, second = (list(r.values()) for r in table_rows(path))
    assert first == ["007", "7", "2024-01-02", "2024-01-02T03:04:00", "TRUE", "007", "0.3"]
    assert second == ["1e5", "100000", "", "", "FALSE", "1234", "-2.5"]


def test_a_sheet_as_excel_writes_it(tmp_path):
    """Shared and rich texts, gaps, results of formulas, and rows far apart."""
    rows = (
        b'<row r="2"><c r="B2" t="s"><v>0</v></c><c r="C2" t="s"><v>1</v></c></row>'
        b'<row r="5"><c r="B5" t="s"><v>2</v></c><c r="C5" t="str"><f>A1</f><v>x</v></c></row>'
        b'<row r="9"><c r="C9"><f>1+1</f><v>2</v></c></row>'
        b'<row r="10"><c r="B10"><v>-1E-3</v></c><c r="C10" t="b"><v>0</v></c></row>'
    )
    strings = (
        b'<si><t>patient_id</t></si><si><t xml:space="preserve"> f </t></si>'
        b"<si><r><t>00</t></r><r><t>7</t></r></si>"
    )
    path = excel_made(tmp_path / "t.xlsx", rows, strings)
    assert sheets.numbered_rows(path) == [
        (5, {"patient_id": "007", "f": "x"}),
        (9, {"patient_id": "", "f": "2"}),
        (10, {"patient_id": "-0.001", "f": "FALSE"}),
    ]


def test_sheets_are_chosen_by_name_and_rows_numbered_as_shown(tmp_path):
    book = openpyxl.Workbook()
    book.active.title = "hidden"
    book.active.sheet_state = "hidden"
    book.active.append(["patient_id"])
    for title, rows in (("First", [["a"], [], ["1"]]), ("Findings #2", [["b"], ["2"]])):
        page = book.create_sheet(title)
        for row in rows:
            page.append(row)
    book.active = 1
    book.save(tmp_path / "t.xlsx")
    assert sheets.numbered_rows(tmp_path / "t.xlsx") == [(3, {"a": "1"})]
    assert table_rows(tmp_path / "t.xlsx#findings #2") == [{"b": "2"}]
    error = refusal(table_rows, tmp_path / "t.xlsx#Third")
    assert "First, Findings #2" in str(error)


def test_a_formula_needs_its_value(tmp_path):
    rows = [("patient_id", "finding"), ("P1", "=F1"), ("P2", "=F2")]
    path = write_xlsx(tmp_path / "t.xlsx", rows)
    error = refusal(table_rows, path)
    assert [("cell B2" in p, "cell B3" in p) for p in error.problems] == [
        (True, False),
        (False, True),
    ]
    # Excel stores a result that is the empty text as a text cell with an empty value.
    rewritten(path, b'<c r="B2"><f>F1</f><v /></c>', b'<c r="B2"><f>F1</f><v>3</v></c>')
    rewritten(path, b'<c r="B3"><f>F2</f><v /></c>', b'<c r="B3" t="str"><f>F2</f><v></v></c>')
    assert [r["finding"] for r in table_rows(path)] == ["3", ""]


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([], "empty"),
        ([("a", "a"), (1, 2)], "stands twice"),
        ([("a",), (1, 2)], "row 2: a value in a column that has no name"),
        ([("a", None, "b"), (1, 2, 3)], "row 2: a value in a column that has no name"),
        ([("patient_id",), (12345678901234567,)], "cell A2: a number of 16 digits"),
        ([("patient_id",), (1e300,)], "cell A2: a number of 16 digits"),
    ],
)
def test_sheets_that_cannot_be_trusted(tmp_path, rows, part):
    assert part in str(refusal(table_rows, write_xlsx(tmp_path / "t.xlsx", rows)))


def test_excel_errors_and_impossible_dates_name_their_cell(tmp_path):
    path = write_xlsx(tmp_path / "t.xlsx", [("a", "b"), (1, 5)], formats={(2, 2): "yyyy-mm-dd"})
    rewritten(path, b"<v>5</v>", b"<v>9999999</v>")
    assert "cell B2: the Excel error #VALUE!" in str(refusal(table_rows, path))
    rewritten(path, b'<c r="A2" t="n"><v>1</v></c>', b'<c r="A2" t="e"><v>#N/A</v></c>')
    assert "cell A2: the Excel error #N/A" in str(refusal(table_rows, path))


def test_a_wrong_declared_size_cuts_nothing(tmp_path):
    path = write_xlsx(tmp_path / "t.xlsx", [("a", "b"), (1, 2), (3, 4)])
    rewritten(path, b'ref="A1:B3"', b'ref="A1:A2"')
    assert table_rows(path) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_archives_that_are_no_table(tmp_path):
    bomb = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(40 << 20))
    assert "would unpack to 41943040" in str(refusal(table_rows, bomb))
    laughs = excel_made(
        tmp_path / "laughs.xlsx", b"<row><c t='s'><v>0</v></c></row>", b"<si><t>&e9;</t></si>"
    )
    entities = b"".join(b'<!ENTITY e%d "%s">' % (k, b"&e%d;" % (k - 1) * 10) for k in range(1, 10))
    head = b'<!DOCTYPE sst [<!ENTITY e0 "ha">' + entities + b"]><sst"
    rewritten(laughs, b"<sst", head, "xl/sharedStrings.xml")
    assert "not readable as a workbook" in str(refusal(table_rows, laughs))
    for name, raw in (
        ("old.xls", b"x"),
        ("m.xlsm", b"x"),
        ("locked.xlsx", b"\xd0\xcf\x11\xe0rest"),
    ):
        (tmp_path / name).write_bytes(raw)
        assert "without a password" in str(refusal(table_rows, tmp_path / name))
    (tmp_path / "t.csv").write_bytes(laughs.read_bytes())
    assert "name a workbook .xlsx" in str(refusal(table_rows, tmp_path / "t.csv"))
    assert "no such table" in str(refusal(table_rows, tmp_path / "none.xlsx#a"))


def test_broken_workbooks_cost_a_sentence(tmp_path):
    """Cut anywhere or with any byte changed, a workbook is read or refused, and nothing else happens."""
    good = write_xlsx(tmp_path / "good.xlsx", [("a", "b"), ("x", 2), ("y", 4)]).read_bytes()
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "t.xlsx", 0
    for k in range(80):
        raw = bytearray(good)
        at = int(rng.integers(len(raw)))
        raw = raw[:at] if k % 2 else raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :]
        path.write_bytes(raw)
        try:
            table_rows(path)
        except UsageError:
            refused += 1
    assert refused >= 40


# --- missing and uncertain are no negatives ---


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1.0", "0.0", "-1.0", "", "1"], ["1", "0", UNCERTAIN, None, "1"]),
        (["1", "-1", ""], ["1", UNCERTAIN, None]),
        (["0", "1", "-1", "2"], ["0", "1", "-1", "2"]),
        (["-1", "U", "NaN", "0"], [UNCERTAIN, UNCERTAIN, None, "0"]),
        (["yes", "no", "?", "Unknown", "N/A", "-", "Equivocal"],
         ["yes", "no", UNCERTAIN, UNCERTAIN, None, None, UNCERTAIN]),
        (["1.0", "yes", "-1"], ["1.0", "yes", "-1"]),
        (["007", "7", "7.0"], ["007", "7", "7.0"]),
        (["+1", "-0", "2.50", "1e5"], ["+1", "-0", "2.50", "1e5"]),
        (["+1", "-0", "2.50"], ["1", "0", "2.5"]),
        (["", "NA"], [None, None]),
    ],
)  # fmt: skip
def test_values_without_a_schema(cells, expected):
    got = parse("finding", list(enumerate(cells, start=2)), None, "t.csv")
    assert list(got.values) == expected
    assert not got.problems


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-1e6, max_value=1e6))
def test_numbers_have_one_spelling(number):
    from decimal import Decimal

    text = number_text(str(number))
    assert Decimal(text) == number
    assert {number_text(t) for t in (text, f"{number:f}0")} == {text}
    assert "." not in text or text[-1] not in "0."
    assert text != "-0"


def test_what_was_read_otherwise_is_told():
    cells = ["1.0", "1", "-1", "none", "none", "0"]
    notes = " ".join(parse("f", list(enumerate(cells)), None, "t").notes)
    for part in (
        "'none' (2) read as missing",
        "'-1' (1) read as uncertain",
        "'1.0' (1) read as the",
    ):
        assert part in notes
    twins = parse("f", list(enumerate(["Yes", "yes", "no"])), None, "t").notes
    assert twins == ("f: 'Yes', 'yes' differ only in case and stay apart.",)


def test_uncertain_by_the_users_door(tmp_path):
    """CheXpert's way of writing, in a workbook: -1.0 apart from 0.0 and from blank."""
    owners = {f"{k}.png": f"P{k % 5}" for k in range(10)}
    who = hospital(tmp_path, owners)
    stated = [1.0, 0.0, -1.0, None, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0]
    rows = [("file", "edema"), *zip(owners, stated, strict=True)]
    table = write_xlsx(tmp_path / "l.xlsx", rows, title="a b")
    words = ["--site", "s", "--table", who, "--labels", f"{table}#a b", "--label", "edema"]
    assert run("scan", tmp_path / "s", *words, "--out", tmp_path / "c") == 0
    stored = pq.read_table(tmp_path / "c" / "labels.parquet").column("edema").to_pylist()
    assert Counter(stored) == {"1": 3, "0": 4, UNCERTAIN: 2}
    known = labels.read(tmp_path / "c", "edema")
    assert Counter(known.values()) == {"1": 3, "0": 4}
    assert (len(known.uncertain), labels.available(tmp_path / "c")) == (2, ["edema"])
    told = json.loads((tmp_path / "c" / "cohort.json").read_text())["labels"][0]
    assert (told["values"], told["uncertain"], told["missing"]) == (
        {"edema": {"0": 4, "1": 3}},
        {"edema": 2},
        {"edema": 1},
    )


def test_an_uncertain_slice_does_not_take_its_volumes_value(tmp_path):
    table = {("v", -1): {"f": "1"}, ("v", 2): {"f": UNCERTAIN}, ("w", -1): {"f": UNCERTAIN},
             ("w", 0): {"f": "0"}}  # fmt: skip
    labels.write(tmp_path, table)
    known = labels.read(tmp_path, "f")
    assert [labels.lookup(known, "v", k) for k in range(4)] == ["1", "1", None, "1"]
    assert [labels.lookup(known, "w", k) for k in range(3)] == ["0", None, None]
    assert [labels.is_uncertain(known, "w", k) for k in range(3)] == [False, True, True]
    assert labels.lookup(dict(known), "v", 0) == "1"


def test_uncertain_pictures_are_neither_trained_on_nor_tested(cohort_copy):
    """Of every split one uncertain picture and one without a value are left out, and counted."""
    store = open_store(cohort_copy, DecodeConfig(size=SIZE))
    place = split_room.read(cohort_copy)
    before = labels.read(cohort_copy, "finding")
    config = FinetuneConfig(target="finding")
    whole = make_task(config, cohort_copy, store)
    chosen = {}
    for name in ("train", "val", "test"):
        mine = [r for r in range(len(store)) if place[store.column("patient_id")[r]] == name]
        doubted, blank = (str(store.column("image_id")[r]) for r in mine[:2])
        chosen[doubted], chosen[blank] = UNCERTAIN, None
    kept = {i: {"finding": chosen.get(i[0], v)} for i, v in before.items()}
    labels.write(cohort_copy, {i: {c: v for c, v in row.items() if v} for i, row in kept.items()})
    task = make_task(config, cohort_copy, store)
    assert task.uncertain == {"test": 1, "train": 1, "val": 1}
    assert not set(store.column("image_id")[task.rows]) & set(chosen)
    assert len(task.rows) == len(whole.rows) - 6
    assert task.classes == whole.classes
    labels.write(cohort_copy, {i: {"finding": UNCERTAIN} for i in before})
    with pytest.raises(NothingUsableError, match=f"{len(whole.rows)} are uncertain"):
        make_task(config, cohort_copy, store)


# --- a schema ---


def schema_file(tmp_path, *rows, ending=".csv"):
    head = ("column", "kind", "values", "missing", "uncertain", "min", "max")
    full = [(*row, *[""] * (len(head) - len(row))) for row in rows]
    return WRITERS[ending](tmp_path / f"schema{ending}", [head, *full])


@pytest.mark.parametrize("ending", WRITERS)
def test_a_schema_says_what_is_possible(tmp_path, ending):
    rows = [
        ("grade", "class", "none|low|high", "9|not read", "mid"),
        ("edema", "binary"),
        ("age", "number", "", "", "", "0", "120"),
        ("rest", "", "a|NA"),
    ]
    schema = read_schema(schema_file(tmp_path, *rows, ending=ending))
    read = {
        "grade": ["none", "low", "9.0", "Not Read", "mid", "", "NA"],
        "edema": ["1.0", "0", "-1", "unknown", "", "2", "yes"],
        "age": ["40", "040", "1e2", "NA", "?", "121", "-1"],
        "rest": ["a", "NA", "na", "", "u", "b", "A"],
    }
    expected = {
        "grade": ["none", "low", None, None, UNCERTAIN, None, "!"],
        "edema": ["1", "0", UNCERTAIN, UNCERTAIN, None, "!", "!"],
        "age": ["40", "40", "100", None, UNCERTAIN, "!", "!"],
        "rest": ["a", "NA", None, None, UNCERTAIN, "!", "!"],
    }
    for column, cells in read.items():
        got = parse(column, list(enumerate(cells)), schema[column], "t.csv")
        wrong = [k for k, v in enumerate(expected[column]) if v == "!"]
        assert [v for k, v in enumerate(got.values) if k not in wrong] == [
            v for v in expected[column] if v != "!"
        ]
        assert [f"line {k}:" in p for k, p in zip(wrong, got.problems, strict=True)] == [
            True for _ in wrong
        ]


def test_a_schema_that_contradicts_itself(tmp_path):
    rows = [
        ("a", "colour", "x|y"), ("b", "class", "x"), ("c", "binary", "x|y|z"),
        ("d", "number", "1|2"), ("e", "class", "x|y", "", "", "1"),
        ("f", "number", "", "", "", "9", "3"), ("g", "number", "", "", "", "low"),
        ("h", "class", "1|1.0"), ("i", "class", "x|y", "X"), ("j", "class", "x|Uncertain"),
        ("k", "class", "x|y", "n", "N"), ("", "binary"), ("b", "binary"),
    ]  # fmt: skip
    error = refusal(read_schema, schema_file(tmp_path, *rows))
    assert {int(p.split("line ")[1].split(":")[0]) for p in error.problems} == set(range(2, 15))
    write_csv(tmp_path / "s.csv", [("column", "vales"), ("a", "x|y")])
    assert "a label schema has column, kind" in str(refusal(read_schema, tmp_path / "s.csv"))


def index_of(patients, per=1):
    """Return the index of ``per`` images for every patient, their depth and their owners."""
    named = {p: [(f"{p}-{k}", -1) for k in range(per)] for p in patients}
    owner = {i: f"p_{p}" for p, items in named.items() for i, _ in items}
    return {"patient_id": named}, dict.fromkeys(owner, 1), owner


def test_impossible_values_are_all_named(tmp_path):
    schema = read_schema(schema_file(tmp_path, ("f", "binary"), ("g", "class", "x|y")))
    people = [f"P{k}" for k in range(40)]
    rows = [(p, 3 if k % 2 else 1, "x" if k else "z") for k, p in enumerate(people)]
    path = write_csv(tmp_path / "l.csv", [("patient_id", "f", "g"), *rows])
    error = refusal(labels.join, path, *index_of(people)[:2], schema=schema)
    assert error.code == "E-LABEL-VALUE"
    assert len(error.problems) == 21
    assert error.problems[0] == "l.csv, line 3: f is '3'; the schema allows 0, 1."
    assert error.problems[-1] == "... and 1 more."
    labels.join(path, *index_of(people)[:2])


def test_a_schema_takes_its_columns_and_must_be_used(tmp_path):
    schema = read_schema(schema_file(tmp_path, ("volume_number", "number"), ("typo", "binary")))
    people = [f"P{k}" for k in range(30)]
    rows = [("patient_id", "volume_number", "other"), *((p, k, k) for k, p in enumerate(people))]
    path = write_csv(tmp_path / "l.csv", rows)
    _, report = labels.join(path, *index_of(people)[:2], schema=schema)
    assert report.columns == ("volume_number",)
    assert "30 different values" in report.left_out["other"]
    assert "'typo'" in str(refusal(labels.check_used, schema, [report]))
    labels.check_used({"volume_number": schema["volume_number"]}, [report])


# --- the join report ---


def test_every_row_and_image_is_accounted_for(tmp_path):
    index, depth, owner = index_of(["A", "B", "C", "D"], per=2)
    rows = [("patient_id", "f", "g"), ("A", "1.0", "x"), ("A", "1", "x"), ("A", "", "y"),
            ("B", "-1", ""), ("Z", "0", "x"), ("", "0", "x"), ("C", "na", ""),
            ("", "0", "x")]  # fmt: skip
    rows[3] = ("A", "", "x")
    path = write_csv(tmp_path / "l.csv", rows)
    found, report = labels.join(path, index, depth, ("f", "g"), images=owner)
    assert found == {
        ("A-0", -1): {"f": "1", "g": "x"}, ("A-1", -1): {"f": "1", "g": "x"},
        ("B-0", -1): {"f": UNCERTAIN}, ("B-1", -1): {"f": UNCERTAIN},
    }  # fmt: skip
    assert (report.rows, report.joined, report.orphans, report.orphan_lines) == (8, 5, 3, (6, 7, 9))
    assert (report.images_without_row, report.duplicate_rows, report.items) == (2, 1, 6)
    assert report.values == {"f": {"1": 2}, "g": {"x": 2}}
    assert (report.uncertain, report.missing) == ({"f": 2, "g": 0}, {"f": 2, "g": 4})
    assert labels.known_images(found) == {"A-0", "A-1"}
    text = "\n".join(labels.report_lines(report))
    for part in ("5 of 8 rows", "(rows 6, 7, 9)", "2 images have no row", "1 rows repeat",
                 "f: 1 2, uncertain 2, missing 2"):  # fmt: skip
        assert part in text
    assert json.loads(json.dumps(vars(report)))["values"] == report.values


VALUES = {"1": "1", "0.0": "0", "-1": UNCERTAIN, "": None, "NA": None, "u": UNCERTAIN}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["A", "B", "C", "no one", ""]),
            st.sampled_from(["", "0", "1", "2", "7"]),
            st.sampled_from(list(VALUES)),
        ).filter(any),
        min_size=1,
        max_size=12,
    )
)
def test_a_join_is_what_a_person_would_do_by_hand(tmp_path_factory, rows):
    """Against an oracle that goes image by image, not row by row."""
    depth = {"A1": 1, "A2": 3, "B1": 2, "C1": 4}
    owner = {"A1": "p", "A2": "p", "B1": "q", "C1": "r"}
    index = {"patient_id": {k: [(i, -1) for i in depth if i[0] == k] for k in "ABC"}}
    # A column of numbers that holds a 0 and a 1 in any case, so that -1 has its meaning.
    rows = [*rows, ("nobody", "", "0"), ("nobody", "", "1")]
    path = tmp_path_factory.mktemp("t") / "t.csv"
    write_csv(path, [("patient_id", "slice", "f"), *rows])
    told = defaultdict(list)
    for image, planes in depth.items():
        for place in range(-1, planes):
            for name, at, cell in rows:
                if name == image[0] and (int(at) if at else -1) == place:
                    told[image, place].append(VALUES[cell])
    expected = {i: set(v) - {None} for i, v in told.items()}
    if any(len(v) > 1 for v in expected.values()):
        assert (
            refusal(labels.join, path, index, depth, ("f",), images=owner).code
            == "E-LABEL-CONFLICT"
        )
        return
    found, report = labels.join(path, index, depth, ("f",), images=owner)
    assert found == {i: {"f": next(iter(v))} for i, v in expected.items() if v}
    counts = Counter(next(iter(v), None) for v in expected.values())
    assert report.values["f"] == {k: counts[k] for k in ("0", "1") if counts[k]}
    assert (report.uncertain["f"], report.missing["f"]) == (counts[UNCERTAIN], counts[None])
    assert report.items == sum(counts.values()) == len(told)
    assert report.images_without_row == 4 - len({image for image, _ in told})
    met = [
        k
        for k, r in enumerate(rows, 2)
        if any(i[0] == r[0] and int(r[1] or -1) < n for i, n in depth.items())
    ]
    assert (report.joined, report.orphans) == (len(met), len(rows) - len(met))
    assert report.orphan_lines == tuple(k for k in range(2, len(rows) + 2) if k not in met)
    several = defaultdict(set)
    for (image, _), v in expected.items():
        several[owner[image]] |= v - {UNCERTAIN}
    assert report.mixed_patients["f"] == sum(len(v) > 1 for v in several.values())


def test_conflicts_name_the_patient_and_both_lines_once(tmp_path):
    index, depth, owner = index_of(["A", "B"], per=9)
    rows = [("patient_id", "f"), ("A", "1"), ("B", "0"), ("A", "0"), ("B", "u")]
    path = write_csv(tmp_path / "l.csv", rows)
    error = refusal(labels.join, path, index, depth, ("f",), images=owner)
    assert len(error.problems) == 2
    assert "lines 2 and 4: f is '1' and '0' for the same image (A-0 of patient p_A)" in str(error)
    assert "lines 3 and 5: f is '0' and 'uncertain'" in str(error)
    late = [("patient_id", "f", "g"), ("A", "1", ""), ("A", "", "x"), ("A", "1", "y")]
    error = refusal(labels.join, write_csv(path, late), index, depth, ("f", "g"))
    assert error.problems[0].startswith("l.csv, lines 3 and 4: g is 'x' and 'y'")
    first, _ = labels.join(write_csv(path, rows[:3]), index, depth, ("f",))
    second, _ = labels.join(write_csv(path, [rows[0], rows[3]]), index, depth, ("f",))
    assert "two values of f" in str(refusal(labels.merge, [first, second]))


def test_one_identifier_of_two_patients_labels_neither(tmp_path):
    """The same PatientID at two sites or of two issuers is two persons."""
    index = {"patient_id": {"7": [("i1", -1), ("i2", -1)]}}
    path = write_csv(tmp_path / "l.csv", [("patient_id", "f"), ("7", "1")])
    depth = {"i1": 1, "i2": 1}
    error = refusal(labels.join, path, index, depth, ("f",), images={"i1": "p_1", "i2": "p_2"})
    assert "line 2: patient_id stands for 2 different patients" in str(error)
    found, _ = labels.join(path, index, depth, ("f",), images={"i1": "p_1", "i2": "p_1"})
    assert len(found) == 2


def test_a_plane_named_by_its_file_is_that_plane(tmp_path):
    index = {"file": {"a.dcm": [("v", 4)], "b.dcm": [("v", 1)], "c.dcm": [("w", -1)]}}
    rows = [("file", "slice", "f"), ("a.dcm", "0", "x"), ("b.dcm", "1", "y"), ("c.dcm", "2.0", "z")]
    path = write_csv(tmp_path / "l.csv", rows)
    found, report = labels.join(path, index, {"v": 5, "w": 3}, ("f",))
    assert found == {("v", 4): {"f": "x"}, ("v", 1): {"f": "y"}, ("w", 2): {"f": "z"}}
    assert report.notes[0].startswith("1 rows name one plane by file and another by slice")


@pytest.mark.parametrize("text", ["²", "-1", "1.5", "1e1", "\uff19", "x", "9" * 5000])
def test_slice_numbers_that_are_none(tmp_path, text):
    path = write_csv(tmp_path / "l.csv", [("patient_id", "slice", "f"), ("A", text, "1")])
    error = refusal(labels.join, path, *index_of(["A"])[:2], ("f",))
    assert "line 2: slice" in str(error)


def test_an_empty_key_column_is_passed_over(tmp_path):
    rows = [("sop_instance_uid", "patient_id", "f"), ("", "A", "1"), ("", "B", "0")]
    path = write_csv(tmp_path / "l.csv", rows)
    _, report = labels.join(path, *index_of(["A", "B"])[:2], ("f",))
    assert (report.key, report.joined) == ("patient_id", 2)


@pytest.mark.parametrize("name", ["slice", "image_id"])
def test_reserved_names_are_no_labels(tmp_path, name):
    path = write_csv(tmp_path / "l.csv", [("patient_id", name), ("A", "1")])
    error = refusal(labels.join, path, *index_of(["A"])[:2], (name,))
    assert "give the label another name" in str(error)


def test_nothing_joined_is_told(tmp_path):
    path = write_csv(tmp_path / "l.csv", [("patient_id", "f"), ("X", "1"), ("Y", "0")])
    _, report = labels.join(path, *index_of(["A"])[:2], ("f",))
    assert "no row met an image by patient_id" in report.notes[0]
    assert report.images_without_row is None


def test_many_values_are_counted_without_being_listed(tmp_path):
    people = [f"P{k}" for k in range(30)]
    rows = [("patient_id", "f"), *((p, max(k - 5, 0)) for k, p in enumerate(people))]
    _, report = labels.join(write_csv(tmp_path / "l.csv", rows), *index_of(people)[:2], ("f",))
    assert (len(report.values["f"]), report.other_values["f"]) == (20, 5)
    assert next(iter(report.values["f"].items())) == ("0", 6)
    assert sum(report.values["f"].values()) + 5 == report.items == 30


@pytest.mark.real
def test_real_tables_survive_a_workbook(tmp_path):
    """The public label tables, copied into a workbook as text, say the same as their CSV."""
    import os

    folder = os.environ.get("MEDSSL_REAL_DATA")
    if folder is None:
        pytest.skip("MEDSSL_REAL_DATA is not set")
    source = Path(folder) / "cxr_nih" / "labels.csv"
    with source.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.reader(stream))
    book = write_xlsx(tmp_path / "l.xlsx", rows)
    assert sheets.numbered_rows(book) == sheets.numbered_rows(source)
    owner = {r[0]: r[1] for r in rows[1:]}
    index = {"sop_uid": {uid: [(uid, -1)] for uid in owner}}
    _, report = labels.join(book, index, dict.fromkeys(owner, 1), images=owner)
    by_hand = {(r[1], r[2]) for r in rows[1:]}
    both = sum((p, "1") in by_hand for p, v in by_hand if v == "0")
    assert report.mixed_patients == {"pneumonia": both, "finding": both}
    assert both > 0
    assert report.items == 474
