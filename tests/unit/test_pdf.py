"""The report as PDF: tagged, self-contained, the same every time, and silent."""

import base64
import builtins
import http.server
import importlib
import io
import logging
import subprocess
import sys
import threading

import pypdf
import pytest

from medssl.errors import DiskError
from medssl.evaluate.report import pdf as room

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAE"
    "hQGAhKmMIQAAAABJRU5ErkJggg=="
)
PAGE = f"""<!doctype html><html lang="en"><head><title>Report: a &amp; b</title></head><body>
<h1>Does it hold?</h1><p>AUROC 0.812 (0.774 to 0.848), größer ≥ 0.75.</p>
<figure><svg width="30" height="20" role="img"><title>curve</title><path d="M0 0L30 20"/></svg></figure>
<img src="{PIXEL}" alt="one red pixel">
<table><caption>c</caption><thead><tr><th scope="col">class</th></tr></thead>
<tbody><tr><td id="here">effusion</td></tr></tbody></table>
<p><a href="https://doi.org/10.1136/bmj-2023-078378">source</a> <a href="#here">here</a></p>
</body></html>"""


def read(path):
    return pypdf.PdfReader(io.BytesIO(path.read_bytes()))


def roles(node, found=None):
    """Every structure type of the document, by walking its tree."""
    found = set() if found is None else found
    node = node.get_object()
    if isinstance(node, dict):
        found |= {str(node["/S"])} if "/S" in node else set()
        below = node.get("/K", [])
        for one in below if isinstance(below, list) else [below]:
            if not isinstance(one, int):
                roles(one, found)
    return found


def test_it_is_tagged_named_and_readable(tmp_path):
    path = tmp_path / "report.pdf"
    assert room.write_pdf(PAGE, path) is None
    document = read(path)
    root = document.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] == True  # noqa: E712
    assert {"/H1", "/P", "/Table", "/TH", "/TD", "/Figure", "/Link"} <= roles(
        root["/StructTreeRoot"]
    )
    assert root["/Lang"] == "en"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"] == True  # noqa: E712
    assert document.metadata.title == "Report: a & b"
    assert b"pdfuaid" in root["/Metadata"].get_data()
    text = document.pages[0].extract_text()
    assert "AUROC 0.812 (0.774 to 0.848), größer ≥ 0.75." in text
    assert "effusion" in text
    assert len(document.pages[0].images) == 1


def test_the_same_page_gives_the_same_bytes(tmp_path):
    first, second = tmp_path / "1.pdf", tmp_path / "2.pdf"
    assert room.write_pdf(PAGE, first) is None
    code = (
        "import sys; from pathlib import Path; from medssl.evaluate.report.pdf import write_pdf;"
        "write_pdf(sys.stdin.read(), Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(second)]
    env = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PATH": "", "PYTHONUTF8": "1"}
    done = subprocess.run(command, input=PAGE, text=True, capture_output=True, env=env, check=True)
    assert done.stdout == done.stderr == ""
    assert first.read_bytes() == second.read_bytes()
    assert not {"/CreationDate", "/ModDate"} & set(read(first).metadata)


@pytest.fixture
def server():
    """A web server on this machine that notes what it is asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}", asked
        found.shutdown()
        thread.join()


EVERY_WAY = """
<link rel="stylesheet" href="{0}/link.css"><link rel="attachment" href="{0}/attachment">
<style>@import url("{0}/import.css"); @font-face {{ font-family: x; src: url("{0}/font.ttf") }}
body {{ background: url("{0}/back.png"); font-family: x }} li {{ list-style-image: url("{0}/li.png") }}
h1::before {{ content: url("{0}/content.png") }}</style>
<img src="{0}/img.png" alt="a"><object data="{0}/object.svg"></object><embed src="{0}/embed.svg">
<svg width="9" height="9"><image href="{0}/image.png" width="5" height="5"/><use href="{0}/use.svg#a"/>
</svg><img alt="b" src="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='9' height='9'
%3E%3Cimage href='{0}/nested.png' width='3' height='3'/%3E%3C/svg%3E">
<a rel="attachment" href="{0}/a-attachment">x</a><iframe src="{0}/frame"></iframe>
<ul><li>one</ul><h1>t</h1>
"""


def test_nothing_is_fetched_from_the_network(tmp_path, server):
    address, asked = server
    path = tmp_path / "report.pdf"
    page = PAGE.replace("</body>", EVERY_WAY.format(address) + "</body>")
    assert room.write_pdf(page, path) is None
    assert asked == []
    assert "AUROC" in read(path).pages[0].extract_text()


@pytest.mark.parametrize("base", ["", "<base href='file://{0}/'>"])
def test_no_file_is_read(tmp_path, base):
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("link.css", "import.css"):
        (secret / name).write_text("body::after { content: 'LEAKED' }")
    for name in ("attachment", "a-attachment"):
        (secret / name).write_text("LEAKED")
    for name in ("back", "li", "content", "img", "image", "nested"):
        (secret / f"{name}.png").write_bytes(base64.b64decode(PIXEL.partition(",")[2]))
    path = tmp_path / "report.pdf"
    for prefix in (f"file://{secret}", f"FILE://{secret}", str(secret), "."):
        page = PAGE.replace("<head>", f"<head>{base.format(secret)}")
        page = page.replace("</body>", EVERY_WAY.format(prefix) + "</body>")
        assert room.write_pdf(page, path) is None
        document = read(path)
        assert "LEAKED" not in "".join(p.extract_text() for p in document.pages)
        assert list(document.attachments) == []
        assert sum(len(p.images) for p in document.pages) == 1
        assert b"LEAKED" not in path.read_bytes()


def test_links_stay_links_but_are_not_followed(tmp_path):
    path = tmp_path / "report.pdf"
    room.write_pdf(PAGE, path)
    links = [a.get_object() for a in read(path).pages[0]["/Annots"]]
    assert [a["/A"]["/URI"] for a in links if "/A" in a] == [
        "https://doi.org/10.1136/bmj-2023-078378"
    ]
    assert [a["/Dest"] for a in links if "/Dest" in a] == ["here"]


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (PAGE.replace("<title>Report: a &amp; b</title>", ""), "lacks a <title>; add"),
        (PAGE.replace("Report: a &amp; b", " "), "lacks a <title>; add"),
        (PAGE.replace(' lang="en"', ""), "lacks a lang on <html>; add"),
        ("", "lacks a <title> and a lang"),
    ],
)
def test_a_page_without_name_or_language_is_refused(tmp_path, page, words):
    with pytest.raises(ValueError, match=words):
        room.write_pdf(page, tmp_path / "report.pdf")
    assert list(tmp_path.iterdir()) == []


def without(monkeypatch, error):
    """Let any import of WeasyPrint fail, as on a machine that lacks it or Pango."""
    real = builtins.__import__

    def fake(name, *args, **kwargs):
        if name.partition(".")[0] == "weasyprint":
            print("-----\nWeasyPrint could not import some external libraries.")
            raise error
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fake)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module", name="weasyprint"),
         'report.pdf was not written: weasyprint is not installed. The HTML page holds the same; '
         'for the PDF install "medssl[report]".'),
        (OSError("cannot load library 'libpango-1.0-0'\nmore\nlines"),
         "report.pdf was not written: WeasyPrint could not be loaded (cannot load library "
         "'libpango-1.0-0'). The HTML page holds the same; for the PDF install Pango and the other "
         "packages of packages.txt."),
        (ImportError(""), "report.pdf was not written: WeasyPrint could not be loaded (ImportError)."),
    ],
)  # fmt: skip
def test_a_missing_library_is_a_sentence(tmp_path, monkeypatch, capfd, error, words):
    without(monkeypatch, error)
    got = room.write_pdf(PAGE, tmp_path / "report.pdf")
    assert got is not None
    assert got.startswith(words)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_full_disk_is_no_missing_library(tmp_path, monkeypatch):
    path = tmp_path / "report.pdf"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medssl.files.os.fsync", full)
    with pytest.raises(DiskError, match="disk is full"):
        room.write_pdf(PAGE, path)
    assert path.read_bytes() == b"old"


def test_silent_even_where_logging_is_loud(tmp_path, capfd):
    root = logging.getLogger()
    loud = logging.StreamHandler(sys.stderr)
    before = root.level
    root.addHandler(loud)
    root.setLevel(logging.DEBUG)
    page = PAGE.replace("</head>", "<style>p { colour: red; width: calc( }</style></head>")
    page = page.replace("</body>", "<img src='file:///none.png' alt='x'><img src='x.png'></body>")
    try:
        assert room.write_pdf(page, tmp_path / "report.pdf") is None
        logging.getLogger("weasyprint").warning("afterwards")
    finally:
        root.removeHandler(loud)
        root.setLevel(before)
    assert capfd.readouterr() == ("", "afterwards\n")


def test_weasyprint_is_loaded_late():
    code = "import sys, medssl.evaluate.report.pdf; print('weasyprint' in sys.modules)"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert got.stdout == "False\n"
    assert importlib.import_module("weasyprint").__name__ == "weasyprint"
