"""The viewer in a real browser: pixels against numpy, every tool by mouse, key and finger."""

import base64
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "apps" / "review" / "viewer"
MISSING = not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None
pytestmark = pytest.mark.filterwarnings("default")
browser_only = [
    pytest.mark.browser,
    pytest.mark.skipif(
        MISSING, reason="NO BROWSER TESTS: install chromium and the Python package playwright"
    ),
]
PADDING = -32768
HARNESS = """
import json, sys
from pathlib import Path
import streamlit as st
sys.path.insert(0, {apps!r})
st.set_page_config(layout="wide")
from viewer import viewer
HERE = Path({here!r})
cases = json.loads((HERE / "cases.json").read_text())
state = st.session_state
state.setdefault("name", "ct")
state.setdefault("count", 0)
state.setdefault("acts", [])
state.setdefault("boxes", [])
with st.sidebar:
    for name in cases:
        if st.button(name):
            state.name, state.count = name, state.count + 1
    st.button("unrelated")
    added = st.checkbox("added heat")
case = cases[state.name]
if added:
    case["panes"][0]["heat"] = cases["heat"]["panes"][0]["heat"]
    case["words"] = {{"heat_elsewhere": "<b>only on {{k}}</b>"}}
case["id"] = f"{{state.name}}-{{state.count}}"
out = viewer(
    case, key="v",
    on_act=lambda: state.acts.append(state.v.act),
    on_box=lambda: state.boxes.append(state.v.box),
)
st.code(json.dumps(dict(acts=state.acts, boxes=state.boxes, slice=out.slice)))
"""
SERVER = """
import json, sys
from pathlib import Path
import numpy as np
import streamlit as st
from starlette.responses import Response
from starlette.routing import Route
HERE = Path({here!r})
ARRAYS = {{p.stem: np.load(p) for p in (HERE / "arrays").glob("*.npy")}}
REFUSED = set()
async def plane(request):
    token, k = request.path_params["token"], request.path_params["k"]
    if token == "gone":
        return Response(status_code=410)
    if token == "flaky" and k == 2 and k not in REFUSED:
        REFUSED.add(k)
        return Response(status_code=500)
    return Response(
        ARRAYS[token][k].tobytes(), media_type="application/octet-stream",
        headers={{"Cache-Control": "no-store"}},
    )
app = st.App(str(HERE / "page.py"), routes=[Route("/planes/{{token}}/{{k:int}}", plane)])
"""


# ---- what is shown -------------------------------------------------------------------------------


def arrays():
    rng = np.random.default_rng(7)
    ct = rng.integers(-1000, 2000, (7, 60, 48)).astype("<i2")
    ct[:, :4, :5] = PADDING
    floats = rng.normal(0, 3, (1, 33, 52)).astype("<f4")
    floats[0, 3:6, 7:9] = np.nan
    return {
        "ct": ct,
        "prior": rng.integers(-1000, 2000, (4, 40, 50)).astype("<i2"),
        "third": rng.integers(0, 255, (3, 20, 20)).astype("u1"),
        "cr": rng.integers(0, 4096, (1, 61, 47)).astype("<u2"),
        "floats": floats,
        "rgb": rng.integers(0, 256, (1, 30, 50, 3)).astype("u1"),
        "vol": rng.integers(-500, 500, (9, 20, 30)).astype("<i2"),
        "flaky": rng.integers(0, 100, (5, 16, 24)).astype("<u2"),
    }


LETTERS = {"left": "R", "right": "L", "top": "A", "bottom": "P"}
PLANES = arrays()
TABLE = np.round(np.sqrt(np.arange(3000) / 2999), 6).tolist()
HEAT = {
    "rows": 3,
    "cols": 4,
    "slice": 3,
    "values": np.round(np.linspace(0, 1, 12), 4).tolist(),
    "legend": "brighter: changing this area changes the answer more",
}


def pane(token, **more):
    array = PLANES[token]
    kind = "rgb" if array.ndim == 4 else array.dtype.str[1:]
    base = {
        "url": f"/planes/{token}", "label": f"Image {token}", "frame": "blue",
        "slices": array.shape[0], "rows": array.shape[1], "cols": array.shape[2], "dtype": kind,
        "blank": None, "low": float(np.nanmin(array)), "high": float(np.nanmax(array)),
        "window": None, "curve": "LINEAR", "lut": None, "invert": False, "presets": [],
        "units": "", "spacing": [None, None, None], "letters": None, "planes": False, "start": 0,
        "names": None, "alt": f"Image {token} of this patient", "heat": None,
    }  # fmt: skip
    return {**base, **more}


def case(*panes, **more):
    return {"panes": panes, "next": [], "habits": {"drag": "window"}, "words": {}, **more}


def ct(**more):
    base = {
        "blank": PADDING, "low": -1000, "high": 1999, "window": {"centre": 40, "width": 400},
        "units": "HU", "spacing": [3.0, 0.8, 0.8], "letters": LETTERS, "start": 3,
        "presets": [{"name": "soft tissue", "centre": 40, "width": 400},
                    {"name": "lung", "centre": -600, "width": 1500}],
    }  # fmt: skip
    return pane("ct", **{**base, **more})


def cases():
    prior = pane("prior", frame="orange", units="HU", spacing=[6.0, 1.0, 1.0],
                 window={"centre": 0, "width": 900}, label="Study A, 3 months earlier")  # fmt: skip
    sizes = {"slices": 3, "rows": 20, "cols": 20, "dtype": "u1"}
    gone = {**pane("third"), **sizes, "url": "/planes/gone"}
    outside = {**pane("third"), **sizes, "url": "http://example.org/planes/x"}
    ahead = [{"url": "/planes/flaky", "slices": 2, "start": 0}]
    flaky = {"window": {"centre": 50, "width": 100}, "start": 1}
    return {
        "ct": case(ct()),
        "exact": case(ct(curve="LINEAR_EXACT")),
        "sigmoid": case(ct(curve="SIGMOID")),
        "one wide": case(ct(window={"centre": 40.5, "width": 1})),
        "cr": case(pane("cr", invert=True, window={"centre": 2048, "width": 3000},
                        spacing=[None, 0.2, 0.1])),
        "lut": case(pane("cr", curve="LUT", lut={"first": 100, "table": TABLE})),
        "floats": case(pane("floats", curve="LINEAR_EXACT")),
        "rgb": case(pane("rgb")),
        "heat": case(ct(heat=HEAT)),
        "vol": case(pane("vol", planes=True, letters=LETTERS, spacing=[5.0, 1.0, 2.0], start=4,
                         window={"centre": 0, "width": 1000}, names=[f"n{k}" for k in range(9)])),
        "pair": case(ct(), prior, pane("third", units="")),
        "hostile": case(ct(label="<img src=x onerror=alert(1)>", alt="<b>bold</b>")),
        "flaky": case(pane("flaky", **flaky)),
        "gone": case(gone),
        "outside": case(outside),
        "ahead": case(ct(), next=ahead),
        "scroller": case(ct(), habits={"drag": "scroll"}),
    }  # fmt: skip


# ---- the oracle: the standard's words, pixel by pixel --------------------------------------------


def linear(x, c, w):
    y = ((x - (c - 0.5)) / max(w - 1, 1e-12) + 0.5) * 255
    return np.where(x <= c - 0.5 - (w - 1) / 2, 0, np.where(x > c - 0.5 + (w - 1) / 2, 255, y))


def linear_exact(x, c, w):
    y = ((x - c) / w + 0.5) * 255
    return np.where(x <= c - w / 2, 0, np.where(x > c + w / 2, 255, y))


def sigmoid(x, c, w):
    return 255 / (1 + np.exp(-4 * (x - c) / w))


def greys(plane, curve, c, w, blank=None):
    x = plane.astype(np.float64)
    y = np.rint(curve(np.nan_to_num(x), c, w))
    return np.where(np.isnan(x) | (x == (np.inf if blank is None else blank)), 0, y)


def near(got, expected, tolerance=1):
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() <= tolerance


# ---- the harness ---------------------------------------------------------------------------------


def free_port():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    here = tmp_path_factory.mktemp("viewer")
    (here / "arrays").mkdir()
    for name, array in PLANES.items():
        np.save(here / "arrays" / f"{name}.npy", array)
    (here / "cases.json").write_text(json.dumps(cases()))
    (here / "page.py").write_text(HARNESS.format(apps=str(FOLDER.parent), here=str(here)))
    (here / "server.py").write_text(SERVER.format(here=str(here)))
    port = free_port()
    flags = ["--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1",
             "--browser.gatherUsageStats=false", "--server.fileWatcherType=none",
             "--client.toolbarMode=viewer", "--theme.base=dark"]  # fmt: skip
    with (here / "log").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(here / "server.py"), *flags],
            cwd=here, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, child, here / "log")
        yield url
    finally:
        child.terminate()
        child.wait(20)


def wait_for(url, child, log):
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return
        except OSError:
            assert child.poll() is None, log.read_text()
            time.sleep(0.1)
    raise AssertionError(log.read_text())


class Seat:
    """One browser page in front of the viewer."""

    def __init__(self, page, url):
        self.page, self.url, self.requests = page, url, []
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(url)
        self.count = 0

    def open(self, name, ready=True):
        self.count += 1
        self.page.get_by_role("button", name=name, exact=True).click()
        self.page.locator(f"canvas[data-id='{name}-{self.count}']").first.wait_for()
        if ready:
            self.wait(lambda: self.data()["ready"] == "true")
            self.page.mouse.move(2, 2)
            self.canvas().focus()
        return self

    def canvas(self, at=0):
        return self.page.locator("canvas").nth(at)

    def data(self, at=0):
        return self.canvas(at).evaluate("c => ({...c.dataset})")

    def text(self, name, at=0):
        return self.page.locator(f".pane >> nth={at} >> .{name}").text_content()

    def wait(self, test, seconds=8):
        end = time.monotonic() + seconds
        while not test():
            assert time.monotonic() < end, f"waited {seconds} s in vain"
            self.page.wait_for_timeout(25)

    def frame(self):
        self.page.evaluate("() => new Promise(d => requestAnimationFrame(() => setTimeout(d, 20)))")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        self.frame()

    def button(self, name):
        self.page.locator(f"[data-command={name}]").click()
        self.frame()

    def pixels(self, at=0):
        code = """c => {
          const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
          let s = ''; for (const b of d) { s += String.fromCharCode(b); }
          return [c.height, c.width, btoa(s)]; }"""
        rows, cols, text = self.canvas(at).evaluate(code)
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(rows, cols, 4)

    def grey(self, at=0):
        shown = self.pixels(at)
        assert (shown[..., 0] == shown[..., 1]).all()
        assert (shown[..., 0] == shown[..., 2]).all()
        assert (shown[..., 3] == 255).all()
        return shown[..., 0]

    def point(self, x, y, at=0):
        """Page position of an image point."""
        box = self.canvas(at).bounding_box()
        size = self.canvas(at).evaluate("c => [c.width, c.height]")
        return box["x"] + x * box["width"] / size[0], box["y"] + y * box["height"] / size[1]

    def drag(self, start, end, button="left", at=0):
        self.page.mouse.move(*self.point(*start, at))
        self.page.mouse.down(button=button)
        self.page.mouse.move(*self.point(*end, at), steps=3)
        self.page.mouse.up(button=button)
        self.frame()

    def drag_by(self, dx, dy, button="left"):
        box = self.page.locator(".stage").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down(button=button)
        self.page.mouse.move(x + dx, y + dy, steps=2)
        self.page.mouse.up(button=button)
        self.frame()

    def told(self):
        return json.loads(self.page.locator("[data-testid=stCode] code").text_content())

    def planes(self):
        return [url for url in self.requests if "/planes/" in url]


@pytest.fixture(scope="module")
def seat(address):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(viewport={"width": 1400, "height": 1000}, has_touch=True)
        page = context.new_page()
        page.set_default_timeout(20000)
        yield Seat(page, address)
        browser.close()


def browser(test):
    for mark in browser_only:
        test = mark(test)
    return test


# ---- without a browser ---------------------------------------------------------------------------


def parts():
    sys.path.insert(0, str(FOLDER.parent))
    import viewer

    return viewer


def test_the_parts_join_into_one_module():
    joined = parts().script()
    assert joined.count("export ") == 1
    assert "export default function viewer(" in joined
    assert not re.search(r"^\s*import\b", joined, re.MULTILINE)
    names = re.findall(
        r"^(?:async )?(?:function|class|const|let) (\w+)",
        joined.replace("export default ", ""),
        re.M,
    )
    assert len(names) == len(set(names)), "two parts share a top-level name"
    listed = {f"{part}.js" for part in parts().PARTS}
    assert listed == {path.name for path in FOLDER.glob("*.js")}


def test_joining_drops_only_imports_and_exports():
    texts = ['import { a } from "./a.js";\nexport const b = a;', "export default function c() {}"]
    assert parts().joined(texts) == "const b = a;\nexport default function c() {}"


def test_parts_are_imported_after_they_are_defined():
    seen = set()
    for part in parts().PARTS:
        text = (FOLDER / f"{part}.js").read_text()
        assert set(re.findall(r'from "\./(\w+)\.js"', text)) <= seen
        seen.add(part)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.*s")), ids=lambda p: p.name)
def test_files_are_short_and_keep_text_as_text(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|https?://(?!www\.w3\.org)", text
    )


def test_words_cover_the_script():
    words = parts().WORDS
    joined = parts().script()
    used = set(re.findall(r"\bwords\.(\w+)", joined))
    assert used <= set(words)
    commands = set(re.findall(r'"(\w+)"', joined.split("const GROUPS")[1].split("];")[0]))
    assert commands == set(words["names"]) == set(words["titles"])


# ---- pixels --------------------------------------------------------------------------------------


@browser
@pytest.mark.parametrize(
    ("name", "curve", "window"),
    [
        ("ct", linear, (40, 400)),
        ("exact", linear_exact, (40, 400)),
        ("sigmoid", sigmoid, (40, 400)),
        ("one wide", linear, (40.5, 1)),
    ],
)
def test_windows_follow_the_standard(seat, name, curve, window):
    seat.open(name).press("0")
    assert float(seat.data()["zoom"]) == 1
    box = seat.canvas().bounding_box()
    assert (box["width"], box["height"]) == (48, 60)
    near(seat.grey(), greys(PLANES["ct"][3], curve, *window, blank=PADDING))
    assert (seat.grey()[:4, :5] == 0).all()


@browser
def test_larger_values_of_a_negative_picture_are_darker(seat):
    seat.open("cr")
    expected = 255 - greys(PLANES["cr"][0], linear, 2048, 3000)
    near(seat.grey(), expected)
    assert "inverted" in seat.text("numbers")
    seat.press("i")
    near(seat.grey(), 255 - expected)


@browser
def test_a_lookup_table_holds_until_the_window_is_touched(seat):
    seat.open("lut")
    raw = PLANES["cr"][0]
    expected = np.array([[TABLE[min(max(int(v) - 100, 0), 2999)] for v in row] for row in raw])
    near(seat.grey(), np.floor(expected * 255 + 0.5))
    seat.drag_by(30, 0)
    data = seat.data()
    near(seat.grey(), greys(raw, linear, float(data["wc"]), float(data["ww"])))


@browser
def test_floats_are_windowed_by_their_middle_and_nan_is_black(seat):
    seat.open("floats")
    plane = PLANES["floats"][0]
    low, high = np.nanpercentile(plane, [1, 99], method="inverted_cdf")
    data = seat.data()
    assert np.allclose([float(data["wc"]), float(data["ww"])], [(low + high) / 2, high - low])
    near(seat.grey(), greys(plane, linear_exact, (low + high) / 2, high - low))
    assert (seat.grey()[3:6, 7:9] == 0).all()
    seat.press("i")
    assert (seat.grey()[3:6, 7:9] == 0).all()
    seat.press("i")
    seat.drag_by(-20, 10)
    data = seat.data()
    near(seat.grey(), greys(plane, linear_exact, float(data["wc"]), float(data["ww"])))


@browser
def test_colours_stay_as_they_are(seat):
    seat.open("rgb")
    near(seat.pixels()[..., :3], PLANES["rgb"][0].astype(int), 0)
    seat.press("i")
    near(seat.pixels()[..., :3], 255 - PLANES["rgb"][0].astype(int), 0)


def stretched(heat, rows, cols):
    """Bilinear by loops over cell centres."""
    cells = np.array(heat["values"]).reshape(heat["rows"], heat["cols"])
    out = np.zeros((rows, cols))
    for r in range(rows):
        for c in range(cols):
            y = min(max((r + 0.5) / rows * heat["rows"] - 0.5, 0), heat["rows"] - 1)
            x = min(max((c + 0.5) / cols * heat["cols"] - 0.5, 0), heat["cols"] - 1)
            for i in range(heat["rows"]):
                for j in range(heat["cols"]):
                    out[r, c] += cells[i, j] * max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j))
    return out


@browser
def test_heat_map_is_off_then_mixed_and_only_on_its_slice(seat):
    seat.open("heat")
    plain = greys(PLANES["ct"][3], linear, 40, 400, blank=PADDING)
    near(seat.grey(), plain)
    assert seat.text("legend") == ""
    seat.press("h")
    assert seat.text("legend") == HEAT["legend"]
    for opacity in (0.5, 1.0, 0.2):
        seat.page.locator("[data-field=opacity]").fill(str(opacity))
        seat.frame()
        weight = stretched(HEAT, 60, 48)[..., None] * opacity
        expected = plain[..., None] * (1 - weight) + np.array([230, 159, 0]) * weight
        near(seat.pixels()[..., :3], expected, 1.01)
    seat.canvas().focus()
    seat.press("ArrowDown")
    near(seat.grey(), greys(PLANES["ct"][4], linear, 40, 400, blank=PADDING))
    assert seat.text("legend") == "The heat map belongs to image 4."
    seat.press("ArrowUp", "h")
    near(seat.grey(), plain)


# ---- looking through a stack ---------------------------------------------------------------------


@browser
def test_every_way_through_a_stack(seat):
    seat.open("ct")
    assert seat.text("index") == "image 4 of 7"
    ways = [("ArrowDown", 4), ("ArrowUp", 3), ("End", 6), ("ArrowDown", 6), ("Home", 0),
            ("PageDown", 1), ("PageUp", 0)]  # fmt: skip
    for key, k in ways:
        seat.press(key)
        assert seat.data()["k"] == str(k), key
    seat.page.mouse.move(*seat.point(24, 30))
    seat.page.mouse.wheel(0, 120)
    seat.wait(lambda: seat.data()["k"] == "1")
    assert seat.text("index") == "image 2 of 7"
    near(seat.grey(), greys(PLANES["ct"][1], linear, 40, 400, blank=PADDING))
    seat.page.get_by_role("slider", name="Image: Image ct").fill("6")
    seat.wait(lambda: seat.data()["k"] == "5")
    assert "image 6 of 7" in seat.canvas().get_attribute("aria-label")
    seat.wait(lambda: seat.told()["slice"] == 5)


@browser
def test_first_plane_first_then_outwards(seat):
    before = len(seat.planes())
    seat.open("ct")
    seat.wait(lambda: len(seat.planes()) - before == 7)
    order = [int(url.rsplit("/", 1)[1]) for url in seat.planes()[before:]]
    assert order == [3, 4, 2, 5, 1, 6, 0]


@browser
def test_names_of_slices_and_letters(seat):
    seat.open("vol")
    assert seat.text("index") == "image 5 of 9 · n4"
    assert [seat.text(f"letter.{s}") for s in LETTERS] == list(LETTERS.values())


# ---- window, zoom, pan ---------------------------------------------------------------------------


@browser
def test_dragging_presets_numbers_and_limits(seat):
    seat.open("ct")
    seat.drag_by(64, 32)
    data = seat.data()
    assert (float(data["wc"]), float(data["ww"])) == (40 + 50, 400 + 100)
    assert seat.text("numbers") == "C 90 W 500"
    seat.press("2")
    near(seat.grey(), greys(PLANES["ct"][3], linear, -600, 1500, blank=PADDING))
    seat.page.get_by_role("button", name="1 soft tissue").click()
    seat.frame()
    assert seat.data()["wc"] == "40"
    seat.page.locator("[data-field=low]").fill("-100")
    seat.page.locator("[data-field=high]").fill("500")
    seat.frame()
    shown, plane = seat.grey(), PLANES["ct"][3]
    assert (shown[(plane <= -100)] == 0).all()
    assert (shown[(plane >= 500)] == 255).all()
    assert set(shown[(plane > -90) & (plane < 490)]) <= set(range(1, 255))
    seat.page.locator("[data-field=centre]").fill("300")
    seat.page.locator("[data-field=width]").fill("900")
    seat.frame()
    near(seat.grey(), greys(plane, linear, 300, 900, blank=PADDING))
    seat.canvas().focus()
    seat.press("g")
    low, high = np.percentile(plane[plane != PADDING], [1, 99], method="inverted_cdf")
    assert float(seat.data()["ww"]) == high - low + 1
    seat.press("r")
    assert (seat.data()["wc"], seat.data()["ww"]) == ("40", "400")


@browser
def test_right_drag_is_always_the_window_and_a_habit_is_told(seat):
    seat.open("scroller")
    seat.press("t")
    seat.press("t")
    k = int(seat.data()["k"])
    seat.drag_by(0, 70)
    assert int(seat.data()["k"]) > k
    assert seat.data()["wc"] == "40"
    seat.drag_by(0, 32, button="right")
    assert seat.data()["wc"] == "90"
    seat.press("p", "0")
    before = seat.canvas().bounding_box()
    seat.drag_by(25, -15)
    after = seat.canvas().bounding_box()
    assert (after["x"] - before["x"], after["y"] - before["y"]) == (25, -15)
    seat.wait(lambda: {"what": "habit", "value": "pan"}.items() <= seat.told()["acts"][-1].items())
    seat.press("w")


@browser
def test_middle_drag_and_shift_arrows_pan(seat):
    seat.open("ct").press("0")
    start = seat.canvas().bounding_box()
    seat.drag_by(30, 10, button="middle")
    moved = seat.canvas().bounding_box()
    assert (moved["x"] - start["x"], moved["y"] - start["y"]) == (30, 10)
    seat.press("Shift+ArrowLeft")
    assert seat.canvas().bounding_box()["x"] == moved["x"] - 40
    assert seat.data()["k"] == "3"


@browser
def test_zoom_by_key_and_wheel_keeps_the_point_under_the_pointer(seat):
    seat.open("ct").press("0", "+", "+")
    assert np.isclose(float(seat.data()["zoom"]), 1.25**2)
    seat.press("-")
    assert np.isclose(float(seat.data()["zoom"]), 1.25)
    stage = seat.page.locator(".stage").first.bounding_box()
    at = stage["x"] + stage["width"] / 2 + 20.6, stage["y"] + stage["height"] / 2 + 12
    seat.page.mouse.move(*at)
    before = seat.text("value")
    seat.page.keyboard.down("Control")
    seat.page.mouse.wheel(0, -100)
    seat.page.keyboard.up("Control")
    seat.wait(lambda: float(seat.data()["zoom"]) > 1.26)
    seat.page.mouse.move(at[0] + 0.2, at[1])
    seat.frame()
    assert before.startswith("x ")
    assert seat.text("value") == before
    assert seat.data()["k"] == "3"


@browser
def test_the_picture_fits_below_three_quarters_of_the_window(seat):
    seat.open("cr")
    stage = seat.page.locator(".stage").first.bounding_box()
    shown = seat.canvas().bounding_box()
    assert stage["height"] <= 750.5
    assert shown["height"] <= stage["height"] + 0.5
    assert np.isclose(shown["height"] / shown["width"], 61 * 0.2 / (47 * 0.1), rtol=1e-3)


# ---- values, ruler, box --------------------------------------------------------------------------


@browser
@pytest.mark.parametrize(("x", "y"), [(10, 20), (47, 59), (1, 1)])
def test_value_under_the_pointer(seat, x, y):
    seat.open("ct")
    seat.page.mouse.move(*seat.point(x + 0.5, y + 0.5))
    value = PLANES["ct"][3, y, x]
    said = "outside the picture" if value == PADDING else f"{value} HU"
    assert seat.text("value") == f"x {x} y {y}: {said}"


@browser
def test_ruler_uses_both_spacings(seat):
    seat.open("cr").press("m")
    seat.drag((5, 8), (35, 48))
    mm = float(seat.text("length").removesuffix(" mm"))
    assert abs(mm - np.hypot(30 * 0.1, 40 * 0.2)) < 0.06
    seat.press("Escape")
    assert seat.page.locator(".stage .length").first.is_hidden()


@browser
def test_ruler_without_spacing_says_uncalibrated(seat):
    seat.open("lut").press("m")
    seat.drag((5, 8), (35, 48))
    assert seat.text("length") == "uncalibrated: 50 px"
    assert seat.text("scale") == "uncalibrated"
    assert seat.page.locator(".stage .bar").first.is_hidden()
    seat.press("Escape")


@browser
def test_scale_bar_is_round_and_true(seat):
    seat.open("cr").press("0", "+", "+", "+", "+")
    bar = seat.page.locator(".stage .bar").first.bounding_box()["width"]
    number, unit = seat.text("scale").split()
    mm = float(number) * (10 if unit == "cm" else 1)
    assert str(mm).strip("0.")[0] in "125"
    assert abs(bar - mm / 0.1 * float(seat.data()["zoom"])) < 1


@browser
def test_box_in_image_pixels_by_mouse_and_by_keys(seat):
    seat.open("ct").press("o")
    seat.drag((10.4, 20.2), (30.6, 41.7))
    box = {"pane": 0, "slice": 3, "x0": 10, "y0": 20, "x1": 31, "y1": 42}
    seat.wait(lambda: seat.told()["boxes"][-1:] == [box])
    assert seat.page.locator("rect.mark").count() == 1
    seat.press("ArrowRight", "Shift+ArrowRight", "Enter", "ArrowRight", "Shift+ArrowDown", "Enter")
    keyed = {"pane": 0, "slice": 3, "x0": 34, "y0": 30, "x1": 35, "y1": 40}
    seat.wait(lambda: seat.told()["boxes"][-1] == keyed)
    assert seat.data()["k"] == "3"
    seat.press("Escape")
    seat.wait(lambda: seat.told()["boxes"][-1] is None)
    assert seat.page.locator("rect.mark").count() == 0


@browser
def test_window_from_a_box(seat):
    seat.open("ct").press("k")
    seat.drag((10.2, 20.2), (29.8, 39.8))
    inside = PLANES["ct"][3, 20:40, 10:30]
    low, high = np.percentile(inside, [1, 99], method="inverted_cdf")
    data = seat.data()
    assert (float(data["wc"]), float(data["ww"])) == ((low + high + 1) / 2, high - low + 1)


# ---- several views -------------------------------------------------------------------------------


@browser
def test_three_planes_are_cuts_through_one_volume(seat):
    seat.open("vol").press("v")
    seat.wait(lambda: seat.canvas(2).count() == 1 and seat.data(2)["ready"] == "true")
    vol = PLANES["vol"]
    expected = [vol[4], vol[::-1, 10, :], vol[::-1, :, 15]]
    for at, plane in enumerate(expected):
        near(seat.grey(at), greys(plane, linear, 0, 1000))
    names = [seat.page.locator(".pane .name").nth(k).text_content() for k in range(3)]
    assert names == ["Axial", "Coronal", "Sagittal"]
    sides = ["left", "right", "top", "bottom"]
    assert [seat.text(f"letter.{s}", 1) for s in sides] == ["R", "L", "S", "I"]
    assert [seat.text(f"letter.{s}", 2) for s in sides] == ["A", "P", "S", "I"]
    shown = seat.canvas(1).bounding_box()
    assert np.isclose(shown["height"] / shown["width"], 9 * 5 / (30 * 2), rtol=0.01)
    seat.page.mouse.click(*seat.point(7.5, 2.5, 1))
    seat.wait(lambda: seat.data(0)["k"] == "6")
    near(seat.grey(0), greys(vol[6], linear, 0, 1000))
    near(seat.grey(2), greys(vol[::-1, :, 7], linear, 0, 1000))
    seat.press("ArrowDown")
    seat.wait(lambda: seat.data(1)["k"] == "11")
    assert seat.page.locator("line.cross").count() == 6
    seat.press("v")
    assert seat.page.locator("canvas").count() == 1


@browser
def test_side_by_side_is_linked(seat):
    seat.open("pair").press("s")
    seat.wait(lambda: seat.canvas(1).count() == 1 and seat.data(1)["ready"] == "true")
    frames = seat.page.locator(".pane")
    assert "blue" in frames.nth(0).get_attribute("class")
    assert "orange" in frames.nth(1).get_attribute("class")
    assert frames.nth(1).locator(".name").text_content() == "Study A, 3 months earlier"
    near(seat.grey(1), greys(PLANES["prior"][2], linear, 0, 900))
    for key, k, other in [("Home", 0, 0), ("End", 6, 3), ("ArrowUp", 5, 3), ("PageUp", 4, 2)]:
        seat.press(key)
        assert (seat.data(0)["k"], seat.data(1)["k"]) == (str(k), str(other)), key
    seat.press("0")
    assert np.isclose(float(seat.data(1)["zoom"]), 1.0 / 0.8)
    seat.press("2")
    near(seat.grey(1), greys(PLANES["prior"][2], linear, -600, 1500))
    seat.press("y", "Home")
    assert (seat.data(0)["k"], seat.data(1)["k"]) == ("0", "2")
    seat.press("y", "ArrowDown")
    assert (seat.data(0)["k"], seat.data(1)["k"]) == ("1", "3")
    seat.press("x")
    assert seat.canvas(0).evaluate("c => c.width") == 50
    seat.press("x")
    seat.page.locator("[data-field=other]").select_option("2")
    seat.wait(lambda: seat.data(1)["ready"] == "true")
    assert seat.canvas(1).evaluate("c => c.width") == 20
    wide = seat.data(1)["ww"]
    seat.canvas(0).focus()
    seat.press("1", "Home", "End")
    assert seat.data(1)["ww"] == wide
    assert seat.data(1)["k"] == "2"


@browser
def test_blinking_alternates_and_respects_reduced_motion(seat):
    seat.open("pair").press("s")
    seat.press("z")
    shown = seat.page.locator(".pane:not([hidden]) .name")
    first = shown.text_content()
    seat.wait(lambda: shown.text_content() != first, 3)
    assert shown.count() == 1
    seat.press("z")
    assert seat.page.locator(".pane:not([hidden])").count() == 2
    seat.page.emulate_media(reduced_motion="reduce")
    seat.press("z")
    assert seat.page.locator(".pane:not([hidden])").count() == 2
    assert seat.page.locator("[data-command=blink]").is_disabled()
    seat.page.emulate_media(reduced_motion="no-preference")


# ---- touch ---------------------------------------------------------------------------------------


class Fingers:
    def __init__(self, page):
        self.tell = page.context.new_cdp_session(page)

    def send(self, kind, *points):
        touches = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        self.tell.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})


@browser
def test_fingers_scroll_pinch_and_pan(seat):
    seat.open("ct").press("t")
    hand = Fingers(seat.page)
    box = seat.page.locator(".stage").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    hand.send("touchStart", (x, y))
    hand.send("touchMove", (x, y + 31))
    hand.send("touchMove", (x, y + 62))
    hand.send("touchEnd")
    seat.wait(lambda: seat.data()["k"] == "5")
    seat.press("0")
    hand.send("touchStart", (x - 50, y), (x + 50, y))
    hand.send("touchMove", (x - 100, y + 20), (x + 100, y + 20))
    hand.send("touchEnd")
    seat.wait(lambda: np.isclose(float(seat.data()["zoom"]), 2))
    shown = seat.canvas().bounding_box()
    assert abs(shown["y"] + shown["height"] / 2 - (y + 20)) < 1.5
    assert seat.data()["k"] == "5"
    seat.press("w")


# ---- Python, reruns, fetching --------------------------------------------------------------------


@browser
def test_acts_reach_python_once_each(seat):
    seat.open("ct")
    sent = {"a": "agree", "d": "disagree", "u": "unsure", "f": "flag", "n": "next",
            "b": "previous", "Enter": "reveal", "l": "list"}  # fmt: skip
    before = len(seat.told()["acts"])
    for key, what in sent.items():
        before += 1
        seat.press(key)
        seat.wait(lambda: len(seat.told()["acts"]) == before)  # noqa: B023
        assert seat.told()["acts"][-1]["what"] == what
    counts = [act["n"] for act in seat.told()["acts"]]
    assert counts == sorted(set(counts))
    seat.page.locator("[data-field=width]").focus()
    seat.press("a")
    seat.page.locator("[data-command=invert]").focus()
    seat.press("Enter")
    seat.canvas().focus()
    seat.press("Control+a", "Alt+a")
    seat.page.wait_for_timeout(200)
    assert len(seat.told()["acts"]) == before


@browser
def test_keys_are_listed_and_escape_closes_the_list(seat):
    seat.open("ct").press("?")
    panel = seat.page.get_by_role("dialog")
    assert panel.is_visible()
    assert "Agree, disagree, can't tell" in panel.text_content()
    seat.press("a")
    seat.press("Escape")
    assert panel.is_hidden()
    seat.wait(lambda: seat.told()["acts"][-1]["what"] == "help")


@browser
def test_an_unrelated_rerun_changes_nothing_and_fetches_nothing(seat):
    seat.open("ct").press("2", "End", "+", "i")
    seat.wait(lambda: seat.told()["slice"] == 6)
    before, asked, drawn = seat.data(), len(seat.planes()), seat.grey()
    seat.page.get_by_role("button", name="unrelated").click()
    seat.page.wait_for_timeout(400)
    assert seat.data() == before
    assert (seat.grey() == drawn).all()
    assert len(seat.planes()) == asked


@browser
def test_a_heat_map_may_come_later_and_its_words_are_text(seat):
    seat.open("ct").press("ArrowDown")
    assert seat.page.locator("[data-command=heat]").is_hidden()
    seat.page.get_by_text("added heat").click()
    seat.page.locator("[data-command=heat]").wait_for()
    assert seat.data()["k"] == "4"
    seat.button("heat")
    assert seat.text("legend") == "<b>only on 4</b>"
    seat.page.get_by_text("added heat").click()
    seat.page.locator("[data-command=heat]").wait_for(state="hidden")


@browser
def test_hostile_text_is_shown_as_text(seat):
    seat.open("hostile")
    assert seat.page.locator(".pane .name").text_content() == "<img src=x onerror=alert(1)>"
    assert seat.canvas().get_attribute("aria-label").startswith("<b>bold</b>, ")
    assert seat.page.locator(".viewer img").count() == 0


@browser
def test_the_focus_stays_on_the_picture_when_the_next_case_comes(seat):
    seat.open("ct")
    seat.page.locator("[data-command=invert]").focus()
    seat.page.evaluate(
        "() => [...document.querySelectorAll('button')].find(b => b.textContent === 'cr').click()"
    )
    seat.count += 1
    seat.page.locator(f"canvas[data-id='cr-{seat.count}']").wait_for()
    seat.wait(
        lambda: seat.canvas().evaluate("c => c.getRootNode().activeElement === c"),
    )


@browser
def test_a_failed_plane_says_so_and_is_tried_again(seat):
    seat.open("flaky")
    seat.wait(lambda: sum("flaky" in url for url in seat.planes()) >= 5)
    seat.press("ArrowDown")
    seat.wait(lambda: seat.text("note") == "Image 3 could not be loaded.")
    assert seat.data()["ready"] == "false"
    assert (seat.grey() == 0).all()
    seat.page.get_by_role("button", name="Try again").click()
    seat.wait(lambda: seat.data()["ready"] == "true")
    near(seat.grey(), greys(PLANES["flaky"][2], linear, 50, 100))
    assert seat.page.get_by_role("button", name="Try again").is_hidden()


@browser
def test_closed_images_say_so_and_foreign_addresses_are_never_asked(seat):
    seat.open("gone", ready=False)
    seat.wait(lambda: "have been closed" in (seat.text("note") or ""))
    seat.open("outside", ready=False)
    seat.wait(lambda: "could not be loaded" in (seat.text("note") or ""))
    assert not [url for url in seat.requests if "example.org" in url]


@browser
def test_the_next_case_is_fetched_ahead(seat):
    asked = len(seat.planes())
    seat.open("ahead")
    seat.wait(lambda: sum("/flaky/" in url for url in seat.planes()[asked:]) == 2)
    assert all("/ct/" in url for url in seat.planes()[asked : asked + 7])
    asked = len(seat.planes())
    seat.open("flaky")
    seat.wait(lambda: len(seat.planes()) - asked == 3)
    assert not {f"{seat.url}/planes/flaky/{k}" for k in (0, 1)} & set(seat.planes()[asked:])


# ---- everyone, everywhere ------------------------------------------------------------------------


@browser
@pytest.mark.parametrize("width", [1400, 320])
def test_axe_finds_nothing(seat, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    seat.open("pair")
    seat.press("s")
    seat.page.set_viewport_size({"width": width, "height": 1000})
    seat.page.wait_for_timeout(300)
    rules = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]
    found = axe.Axe().run(
        seat.page,
        context=[[".stBidiComponent, [data-testid=stBidiComponentIsolated]"]],
        options={"runOnly": {"type": "tag", "values": rules}},
    )
    seat.page.set_viewport_size({"width": 1400, "height": 1000})
    assert found.response["passes"]
    assert not found.response["violations"], found.generate_report()


@browser
def test_a_narrow_window_wraps_and_does_not_scroll_sideways(seat):
    seat.open("pair")
    seat.press("s")
    seat.page.set_viewport_size({"width": 320, "height": 800})
    seat.page.wait_for_timeout(300)
    root = seat.page.locator(".viewer").bounding_box()
    small = seat.page.evaluate(
        """() => { const root = document.querySelector('[data-testid=stBidiComponentIsolated]').shadowRoot;
        return [...root.querySelectorAll('button, input, select, canvas')]
          .filter(b => b.checkVisibility())
          .map(b => b.getBoundingClientRect()).filter(r => r.height < 24 || r.width < 24).length; }"""
    )
    stages = [seat.page.locator(".stage").nth(k).bounding_box() for k in range(2)]
    seat.page.set_viewport_size({"width": 1400, "height": 1000})
    assert root["x"] + root["width"] <= 320
    assert small == 0
    assert stages[1]["y"] > stages[0]["y"] + stages[0]["height"]
    assert all(box["x"] + box["width"] <= 320 for box in stages)


@browser
def test_the_toolbar_is_one_tab_stop(seat):
    seat.open("ct")
    buttons = seat.page.locator(".bar button[tabindex='0']")
    assert buttons.count() == 1
    buttons.focus()
    seat.press("ArrowRight")
    focused = "() => document.activeElement.shadowRoot.activeElement.dataset.command"
    assert seat.page.evaluate(focused) == "scroll"


@browser
def test_nothing_was_asked_of_another_machine(seat):
    outside = [url for url in seat.requests if not url.startswith((seat.url, "data:", "blob:"))]
    assert not outside
