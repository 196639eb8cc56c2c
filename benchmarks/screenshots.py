"""Photograph every page of the review app on synthetic data into docs/screenshots/.

Usage: python benchmarks/screenshots.py [RUNS]   (what make demo left; default runs/demo)
Needs the system's Chromium. Only runs whose cohorts are synthetic are photographed.
"""

import io
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "apps" / "review"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "app"))

import browser
from PIL import Image

import text

OUT = Path(__file__).parent.parent / "docs" / "screenshots"
SITES = {"hospital_a", "hospital_b"}
SIZE = (1280, 960)
COLOURS = 64
LOAD_MS = 2500


def keep(page, name: str) -> None:
    """Write one picture with few colours: small files, readable letters."""
    browser.settled(page)
    page.wait_for_timeout(LOAD_MS)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    small = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(OUT / f"{name}.png", optimize=True)


def file_name(title: str) -> str:
    """Return a title as the name of a file."""
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def walk(page) -> None:
    """Go through every page, and through one case before and after the answer."""
    keep(page, "who-is-reading")
    browser.enter(page, "AB")
    browser.first_case(page)
    keep(page, "case-before")
    browser.own_read(page, 4)
    keep(page, "case-after")
    page.get_by_role("button", name=text.WHERE_BUTTON).click()
    page.get_by_text(text.WHERE_SWITCH).or_(page.get_by_text(text.WHERE_FLAT)).first.wait_for()
    page.locator(browser.CANVAS).first.focus()
    page.keyboard.press("h")
    keep(page, "case-where-it-looked")
    page.keyboard.press("s")
    keep(page, "case-side-by-side")
    page.keyboard.press("Shift+A")
    page.get_by_text(text.READ_FIRST).wait_for()
    groups = (text.REVIEW_PAGES, text.TEAM_PAGES, text.RESEARCH_PAGES, text.SETTINGS_PAGES)
    for title in [t for group in groups for _, t in group if t != "Case"]:
        browser.to(page, title)
        keep(page, file_name(title))


def main() -> None:
    """Photograph everything."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo").resolve()
    if browser.NEEDED:
        sys.exit(browser.WHY)
    for record in root.glob("*/run.json"):
        sites = set(json.loads(record.read_text()).get("manifest", {}).get("patients_per_site", {}))
        if sites - SITES:
            sys.exit(
                f"{record.parent}: of {sorted(sites)}; only the synthetic hospitals are photographed."
            )
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, browser.chromium() as chrome:
        child = browser.start(root, Path(scratch) / "book.sqlite", port := browser.free_port())
        try:
            page = browser.open_page(
                chrome, f"http://127.0.0.1:{port}/", width=SIZE[0], height=SIZE[1]
            )
            walk(page)
        finally:
            browser.stop(child)


if __name__ == "__main__":
    main()
