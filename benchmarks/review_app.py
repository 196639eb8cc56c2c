"""How fast the review app is in a real browser, and how many keys ten cases take.

Usage: python benchmarks/review_app.py [RUNS]   (a folder with a finished evaluation; default runs/demo)
Needs the system's Chromium. Prints a table; about three minutes. Nothing of RUNS is changed.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent.parent / "apps" / "review"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "app"))

import browser
import viewer_bench

import evaluations
from journal import Journal
from medssl import runs
from medssl.files import write_json

CASES, STEPS, SITTING = 20_000, 200, 10
FRAME_MS = 16.0


def many(source: Path, place: Path, count: int) -> None:
    """Write an evaluation of ``count`` cases: those of a finished one, again and again."""
    place.mkdir(parents=True)
    times = -(-count // pq.read_table(source / "cases.parquet").num_rows)
    for name in ("predictions", "cases", "pictures"):
        table = pq.read_table(source / f"{name}.parquet")
        parts = []
        for k in range(times):
            ids = [f"{i[:-6]}{k:06d}" for i in table.column("image_id").to_pylist()]
            at = table.column_names.index("image_id")
            parts.append(table.set_column(at, "image_id", pa.array(ids, pa.string())))
        pq.write_table(pa.concat_tables(parts).slice(0, count), place / f"{name}.parquet")
    features = np.load(source / "embeddings.npy", allow_pickle=False)
    np.save(place / "embeddings.npy", np.tile(features, (times, 1))[:count])
    (place / "report.json").write_bytes((source / "report.json").read_bytes())
    record = runs.read(source).record
    parents = [{**p, "path": str((source / p["path"]).resolve())} for p in record["parents"]]
    write_json(place / "run.json", record | {"parents": parents})


def memory_mib(process) -> float:
    """Resident memory of a process and its children, MiB."""
    import subprocess

    told = subprocess.run(
        ["ps", "-o", "rss=", "--ppid", str(process.pid), "-p", str(process.pid)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sum(map(int, told.stdout.split())) / 1024


def worklist(chrome, root: Path, book: Path) -> list[tuple[str, str, str]]:
    """Time from the click on Worklist to the drawn list, and of one frame of scrolling."""
    child = browser.start(root, book, port := browser.free_port())
    try:
        page = browser.open_page(chrome, f"http://127.0.0.1:{port}/")
        browser.enter(page, "first")
        took = []
        for _ in range(5):
            browser.to(page, "About this model")
            begun = time.perf_counter()
            page.get_by_role("link", name="Worklist", exact=True).click()
            page.locator(".box[data-ready]").wait_for()
            took.append(time.perf_counter() - begun)
            browser.settled(page)
        shown = page.locator(".foot").inner_text()
        page.locator(".box").focus()
        frames = page.locator(".box").evaluate(
            """async (box) => { const out = []; let last = performance.now();
            for (let k = 0; k < 120; k += 1) { box.scrollTop += 640;
              await new Promise((done) => requestAnimationFrame(done));
              const now = performance.now(); out.push(now - last); last = now; } return out; }"""
        )
        page.context.close()
        return [
            (f"worklist of {CASES:,} cases, from the click to the drawn list", seconds(took), "2 s"),
            ("its rows", shown.split(".")[0], ""),
            ("one frame while it scrolls", f"{statistics.median(frames):.1f} ms median, "
             f"{max(frames):.1f} ms longest of 120", ""),
        ]  # fmt: skip
    finally:
        browser.stop(child)


def seconds(took: list[float]) -> str:
    """Median and longest of several times."""
    return f"{statistics.median(took):.2f} s median, {max(took):.2f} s longest of {len(took)}"


def stepping(chrome, root: Path, book: Path) -> list[tuple[str, str, str]]:
    """Time to the next case's picture, and memory, over many cases."""
    child = browser.start(root, book, port := browser.free_port())
    try:
        page = browser.open_page(chrome, f"http://127.0.0.1:{port}/")
        browser.enter(page, "steps")
        browser.first_case(page)
        client = page.context.new_cdp_session(page)
        took, heap, resident = [], [], []
        for k in range(STEPS):
            before = browser.case_code(page)
            key = "n" if (k // 60) % 2 == 0 else "b"
            page.locator(browser.CANVAS).first.focus()
            begun = time.perf_counter()
            page.keyboard.press(key)
            page.wait_for_function(
                """(before) => { const walk = (root) => { for (const e of root.querySelectorAll('*')) {
                if (e.tagName === 'CANVAS' && e.dataset.ready && e.dataset.id !== before) return true;
                if (e.shadowRoot && walk(e.shadowRoot)) return true; } return false; };
                return walk(document); }""",
                arg=before,
            )
            took.append(time.perf_counter() - begun)
            browser.settled(page)
            if k % 20 == 19:
                client.send("HeapProfiler.collectGarbage")
                used = page.evaluate("() => performance.memory.usedJSHeapSize")
                heap.append(used / 2**20)
                resident.append(memory_mib(child))
        page.context.close()
        return [
            ("next case, from the key to its picture", seconds(took), "1 s"),
            ("longest of the first two, of the others",
             f"{max(took[:2]):.2f} s, {max(took[2:]):.2f} s", ""),
            (f"browser's heap after 20 and after {STEPS} cases",
             f"{heap[0]:.0f} and {heap[-1]:.0f} MiB", "steady"),
            (f"server's memory after 20 and after {STEPS} cases",
             f"{resident[0]:.0f} and {resident[-1]:.0f} MiB", "steady"),
        ]  # fmt: skip
    finally:
        browser.stop(child)


def sitting(chrome, root: Path, book: Path) -> list[tuple[str, str, str]]:
    """Read ten cases by keyboard alone and count the keys; every answer is checked in the file."""
    child = browser.start(root, book, port := browser.free_port())
    keys = 0

    def press(name):
        nonlocal keys
        keys += 1
        page.keyboard.press(name)

    try:
        page = browser.open_page(chrome, f"http://127.0.0.1:{port}/")
        browser.enter(page, "ten")
        page.locator(".box").focus()
        press("Enter")
        page.locator(browser.CANVAS).first.wait_for()
        begun = time.perf_counter()
        for k in range(SITTING):
            page.get_by_text("Your read first").wait_for()
            browser.settled(page)
            press(f"Alt+{(1, 2, 4, 5)[k % 4]}")
            page.get_by_role("heading", name="The computer's read").wait_for()
            browser.settled(page)
            verdict = "Shift+D" if k in (3, 7) else "Shift+U" if k == 5 else "Shift+A"
            press(verdict)
            if verdict == "Shift+D":
                page.get_by_role("button", name="Save details").wait_for()
                browser.settled(page)
                press("Shift+N")
        browser.settled(page)
        took = time.perf_counter() - begun
        page.context.close()
    finally:
        browser.stop(child)
    found = [r.path for r in runs.find(root, "evaluate")]
    model = evaluations.open_review(found[0]).model
    said = [
        s for s in Journal(book).standing("local:ten", model).values() if s.feedback is not None
    ]
    kept = sum(s.read is not None for s in said)
    return [
        ("ten cases read, answered and agreed with or not, by keyboard",
         f"{keys} keys, 0 clicks; {len(said)} verdicts and {kept} own reads in the file", ""),
        ("of which waiting for the app", f"{took:.1f} s", ""),
    ]  # fmt: skip


def main() -> None:
    """Measure everything and print the table."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo").resolve()
    if browser.NEEDED:
        sys.exit(browser.WHY)
    found = runs.find(root, "evaluate")
    if not found:
        sys.exit(f"{root}: no finished evaluation below it; make demo makes one.")
    with tempfile.TemporaryDirectory() as scratch, browser.chromium() as chrome:
        place = Path(scratch)
        many(found[0].path, place / "many" / "at_b", CASES)
        rows = worklist(chrome, place / "many", place / "a.sqlite")
        rows += stepping(chrome, root, place / "b.sqlite")
        rows += sitting(chrome, root, place / "c.sqlite")
        page = chrome.new_page()
        for size, told in viewer_bench.measure(page).items():
            words = f"{told['median']:.1f} ms median, {told['max']:.1f} ms longest"
            rows.append((f"one slice of {size} drawn", words, f"{FRAME_MS:.0f} ms"))
    for what, value, goal in (("measure", "value", "goal"), ("---", "---", "---"), *rows):
        sys.stdout.write(f"| {what} | {value} | {goal} |\n")


if __name__ == "__main__":
    main()
