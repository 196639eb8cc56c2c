"""How fast the viewer draws: a bare page with the component's script, no server behind it."""

import statistics
import sys
from pathlib import Path

import numpy as np

APPS = Path(__file__).parent.parent.parent / "apps" / "review"
HOST = "http://127.0.0.1:9"
MOUNT = """async ([data, css]) => {
  const { default: mount } = await import('/viewer.js');
  const home = document.createElement('div');
  const shadow = home.attachShadow({ mode: 'open' });
  const inner = document.createElement('div');
  inner.className = 'viewer';
  const style = document.createElement('style');
  style.textContent = css;
  shadow.append(inner, style);
  document.body.replaceChildren(home);
  mount({ data, parentElement: shadow, setStateValue() {}, setTriggerValue() {} });
}"""


def _pane(planes):
    return {
        "url": f"/planes/{planes.shape[1]}", "label": "Image", "frame": "blue",
        "slices": planes.shape[0], "rows": planes.shape[1], "cols": planes.shape[2],
        "dtype": "i2", "blank": -32768, "low": -1000, "high": 2000,
        "window": {"centre": 40, "width": 400}, "curve": "LINEAR", "lut": None, "invert": False,
        "presets": [], "units": "HU", "spacing": [3.0, 0.7, 0.7], "letters": None,
        "planes": False, "start": 0, "names": None, "alt": "phantom", "heat": None,
    }  # fmt: skip


def _draws(page, presses):
    times = []
    for key in presses:
        page.keyboard.press(key)
        page.evaluate("() => new Promise(d => requestAnimationFrame(() => setTimeout(d, 0)))")
        times.append(float(page.locator("canvas").get_attribute("data-ms")))
    return times


def measure(page, sizes=((512, 20), (2048, 4)), moves=40):
    """Milliseconds of a drawn slice, {size: {least, median, max}}; page: a Playwright page of its own."""
    sys.path.insert(0, str(APPS))
    import viewer

    rng = np.random.default_rng(0)
    volumes = {n: rng.integers(-1000, 2000, (k, n, n)).astype("<i2") for n, k in sizes}

    def answer(route):
        parts = route.request.url.removeprefix(HOST).strip("/").split("/")
        if parts[0] == "planes":
            route.fulfill(body=volumes[int(parts[1])][int(parts[2])].tobytes())
        elif parts[0] == "viewer.js":
            route.fulfill(body=viewer.script(), content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html><title>viewer</title>", content_type="text/html")

    page.route(f"{HOST}/**", answer)
    page.goto(HOST)
    css = (Path(viewer.__file__).parent / "viewer.css").read_text()
    found = {}
    for size, planes in volumes.items():
        data = {"id": str(size), "panes": [_pane(planes)], "next": [],
                "habits": {"drag": "scroll"}, "words": viewer.WORDS}  # fmt: skip
        page.evaluate(MOUNT, [data, css])
        page.locator("canvas[data-ready=true]").wait_for()
        page.locator("canvas").focus()
        for _ in range(len(planes)):
            page.keyboard.press("ArrowDown")
            page.locator("canvas[data-ready=true]").wait_for()
        back = ["ArrowUp", "ArrowDown"] * (moves // 2)
        times = _draws(page, back)
        found[str(size)] = {
            "least": min(times),
            "median": statistics.median(times),
            "max": max(times),
        }
    page.unroute(f"{HOST}/**")
    return found
