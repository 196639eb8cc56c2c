"""A page with only the viewer on it, synthetic images behind it, and a hand that drives it."""

import base64
import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from browser import NEEDED, WHY, chromium, free_port

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "apps" / "review" / "viewer"
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
    ct[:, 30:50] = rng.integers(25, 56, (7, 20, 48))
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
    foreign = {"outside": "http://example.org/planes/x", "upwards": "/planes/../_stcore/elsewhere",
               "relative": "planes/elsewhere"}  # fmt: skip
    foreign = {name: case({**pane("third"), **sizes, "url": url}) for name, url in foreign.items()}
    ahead = [{"url": "/planes/flaky", "slices": 2, "start": 0}]
    flaky = {"window": {"centre": 50, "width": 100}, "start": 1}
    return {
        "ct": case(ct()),
        "exact": case(ct(curve="LINEAR_EXACT")),
        "sigmoid": case(ct(curve="SIGMOID")),
        "one wide": case(ct(window={"centre": 40.5, "width": 1})),
        "narrow": case(ct(window={"centre": 40, "width": 9})),
        "narrow exact": case(ct(window={"centre": 40, "width": 9}, curve="LINEAR_EXACT")),
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
        **foreign,
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


@contextmanager
def serving(here):
    """A server of the synthetic cases below a folder; its address."""
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
        self.canvas().wait_for()

    def opened(self, name, press):
        """Do what opens a case and wait for its picture."""
        before = self.data()["id"]
        press()
        self.page.locator(f"canvas[data-id^='{name}-']:not([data-id='{before}'])").first.wait_for()

    def open(self, name, ready=True):
        self.opened(name, self.page.get_by_role("button", name=name, exact=True).click)
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

    def wait(self, test, seconds=20):
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


@contextmanager
def sitting(here):
    """A server, a browser and one page."""
    with serving(here) as url, chromium() as one:
        context = one.new_context(viewport={"width": 1400, "height": 1000}, has_touch=True)
        page = context.new_page()
        page.set_default_timeout(60_000)
        yield Seat(page, url)


def in_browser(test):
    """Mark a test as one that drives Chromium."""
    return pytest.mark.browser(pytest.mark.skipif(bool(NEEDED), reason=WHY)(test))
