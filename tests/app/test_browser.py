"""The app as its users meet it: a real browser, by mouse and keyboard, two people at once, killed servers."""

import json
import shutil
import signal

import browser
import numpy as np
import pytest

import text
from evaluations import open_review
from journal import Journal
from medssl.originals import Reader

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(bool(browser.NEEDED), reason=browser.WHY),
]
PAGES = [t for group in (text.REVIEW_PAGES, text.TEAM_PAGES, text.RESEARCH_PAGES, text.SETTINGS_PAGES)
         for _, t in group]  # fmt: skip


@pytest.fixture(scope="module")
def chrome():
    with browser.chromium() as one:
        yield one


@pytest.fixture(scope="module")
def review(report_run):
    return open_review(report_run)


@pytest.fixture(scope="module")
def server(report_run, tmp_path_factory):
    book = tmp_path_factory.mktemp("feedback") / "review.sqlite"
    port = browser.free_port()
    child = browser.start(report_run.parent, book, port)
    yield f"http://127.0.0.1:{port}/", book
    told = browser.stop(child)
    review = open_review(report_run)
    # What the server logged names no patient, no image, no reader.
    assert not [i for i, _ in review.keys if i in told]
    assert not [p for p in review.of_patient if p in told]


def order_of(review):
    return [review.keys[int(k)] for k in review.uncertainty(review.shown[0]).argsort(kind="stable")]


def test_ten_keys_through_two_cases(chrome, server, review):
    """By keyboard alone: open, read, agree, read, disagree; what was said is in the file."""
    url, book = server
    seen = []
    page = browser.open_page(chrome, url, seen)
    browser.enter(page, "keys")
    browser.first_case(page)
    page.keyboard.press("Alt+4")
    page.get_by_role("heading", name="The computer's read").wait_for()
    first = browser.case_code(page)
    browser.settled(page)
    page.locator(browser.CANVAS).first.focus()
    page.keyboard.press("a")
    page.get_by_text("Your read first").wait_for()
    browser.settled(page)
    assert browser.case_code(page) != first
    page.keyboard.press("Alt+1")
    page.get_by_role("heading", name="The computer's read").wait_for()
    browser.settled(page)
    page.locator(browser.CANVAS).first.focus()
    page.keyboard.press("d")
    page.get_by_role("button", name="Save details").wait_for()
    keys = order_of(review)
    standing = Journal(book).standing("local:keys", review.model)
    assert standing[keys[0]].read["answer"] == "present"
    assert standing[keys[0]].feedback["verdict"] == "agree"
    assert standing[keys[1]].read == standing[keys[1]].read | {"answer": "absent", "confidence": 5}
    outside = [
        a for a in seen if not a.startswith((url, url.replace("http", "ws"), "data:", "blob:"))
    ]
    assert outside == []
    told = " ".join([*seen, page.url])
    assert not [i for i, _ in review.keys if i in told]
    assert not [p for p in review.of_patient if p in told]
    page.context.close()


def test_canvas_shows_the_files_own_pixels(chrome, server, review):
    """Whole depth, through file, reader, route and window: against the formula of PS3.3 C.11.2.1.2."""
    url, _ = server
    page = browser.open_page(chrome, url)
    browser.enter(page, "pixels")
    browser.first_case(page)
    canvas = page.locator(browser.CANVAS).first
    centre, width = (float(canvas.get_attribute(n)) for n in ("data-wc", "data-ww"))
    reader = Reader()
    found = reader.open(review.cohort, order_of(review)[0][0])
    reader.stop()
    x = found.values[0].astype(float)
    shown = ((x - (centre - 0.5)) / (width - 1) + 0.5) * 255
    expected = np.clip(np.floor(shown + 0.5), 0, 255)
    if found.facts["inverted"]:
        expected = 255 - expected
    got = browser.pixels(page)
    assert (got["height"], got["width"]) == x.shape
    grey = np.array(got["grey"]).reshape(x.shape)
    assert np.abs(grey - expected).max() <= 1
    assert np.ptp(grey) > 100
    page.context.close()


def test_a_box_by_mouse_goes_with_the_disagreement(chrome, server, review):
    url, book = server
    page = browser.open_page(chrome, url)
    browser.enter(page, "boxer")
    browser.first_case(page)
    browser.own_read(page, 5)
    canvas = page.locator(browser.CANVAS).first
    canvas.focus()
    page.keyboard.press("d")
    page.get_by_role("button", name="Save details").wait_for()
    browser.settled(page)
    canvas.scroll_into_view_if_needed()
    canvas.focus()
    page.keyboard.press("o")
    at = canvas.bounding_box()
    page.mouse.move(at["x"] + at["width"] * 0.25, at["y"] + at["height"] * 0.25)
    page.mouse.down()
    page.mouse.move(at["x"] + at["width"] * 0.5, at["y"] + at["height"] * 0.75, steps=5)
    page.mouse.up()
    page.get_by_text("Box on image 1").wait_for()
    browser.settled(page)
    page.get_by_role("button", name="Save details").click()
    page.get_by_role("button", name="Save details").wait_for(state="hidden")
    key = order_of(review)[0]
    box = Journal(book).standing("local:boxer", review.model)[key].feedback["box"]
    got = browser.pixels(page)
    assert box["x0"] == pytest.approx(0.25 * got["width"], abs=2)
    assert box["y1"] == pytest.approx(0.75 * got["height"], abs=2)
    page.context.close()


def test_two_people_at_once_are_blind_to_each_other(chrome, server, review):
    url, book = server
    people = [browser.open_page(chrome, url) for _ in range(2)]
    for page, name in zip(people, ("one", "two"), strict=True):
        browser.enter(page, name)
        browser.first_case(page)
    browser.own_read(people[0], 5)
    people[1].goto(url)
    assert people[1].get_by_role("heading", name="The computer's read").count() == 0
    browser.enter(people[1], "two")
    browser.first_case(people[1])
    assert people[1].get_by_text("Your read first").count() == 1
    browser.own_read(people[1], 1)
    key = order_of(review)[0]
    answers = {
        n: Journal(book).standing(f"local:{n}", review.model)[key].read["answer"]
        for n in ("one", "two")
    }
    assert answers == {"one": "present", "two": "absent"}
    for page in people:
        page.context.close()


def test_nothing_is_lost_on_reload_or_kill(chrome, report_run, review, tmp_path):
    """Saved is saved: after a reload, and after kill -9 of the server in the middle of a sitting."""
    port, book = browser.free_port(), tmp_path / "book.sqlite"
    child = browser.start(report_run.parent, book, port)
    page = browser.open_page(chrome, f"http://127.0.0.1:{port}/")
    browser.enter(page, "kept")
    browser.first_case(page)
    browser.own_read(page, 4)
    page.reload()
    page.get_by_label("Initials or reader number").fill("kept")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", name="The computer's read").wait_for()
    browser.to(page, "Worklist")
    left = len(review) - 1
    page.get_by_text(f"{left} of {len(review)} cases wait").wait_for()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    child = browser.start(report_run.parent, book, port)
    page.goto(f"http://127.0.0.1:{port}/")
    browser.enter(page, "kept")
    page.get_by_text(f"{left} of {len(review)} cases wait").wait_for()
    page.context.close()
    browser.stop(child)


def on_top(page):
    """Whether the banner is in sight and nothing lies over it."""
    return page.evaluate(
        """(words) => { for (const e of document.querySelectorAll('.st-key-banner strong')) {
        const home = e.closest('.st-key-banner'), r = e.getBoundingClientRect();
        home.style.pointerEvents = 'auto';
        const hit = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
        home.style.pointerEvents = '';
        if (e.textContent === words && r.width > 0 && (hit === e || e.contains(hit))) return true; }
        return false; }""",
        text.BANNER,
    )


@pytest.fixture
def hostile(report_run, tmp_path):
    """A server of an evaluation whose names hold markup."""
    root = tmp_path / "root"
    shutil.copytree(report_run, root / "at_b")
    evil = '<img src=x onerror="window.hit=1"><script>window.hit=2</script>'
    report = json.loads((root / "at_b" / "report.json").read_text())
    report["target"], report["source"]["name"] = evil, evil
    report["cohort"]["sites"] = [evil]
    (root / "at_b" / "report.json").write_text(json.dumps(report))
    record = json.loads((root / "at_b" / "run.json").read_text())
    for one in record["parents"]:
        one["path"] = str((report_run / one["path"]).resolve())
    (root / "at_b" / "run.json").write_text(json.dumps(record))
    child = browser.start(root, tmp_path / "book.sqlite", port := browser.free_port())
    yield f"http://127.0.0.1:{port}/"
    browser.stop(child)


def test_every_page_is_accessible_and_markup_runs_nowhere(chrome, hostile):
    """axe-core, WCAG 2.2 AA: no violation on any page, before and after the answer; names stay words."""
    from axe_playwright_python.sync_playwright import Axe

    page = browser.open_page(chrome, hostile)
    options = {"runOnly": {"type": "tag", "values": list(browser.TAGS)}}
    faults = {}

    def look(name):
        browser.settled(page)
        assert on_top(page), f"{name}: the banner is hidden"
        assert page.evaluate("() => window.hit") is None, name
        for one in Axe().run(page, options=options).response["violations"]:
            nodes = [n["html"][:160] for n in one["nodes"]][:3]
            faults[f"{name}: {one['id']}"] = nodes

    page.wait_for_timeout(2000)  # the first page fades in once its script has run
    look("who")
    browser.enter(page, "axe")
    for title in PAGES:
        browser.to(page, title)
        look(title)
    browser.to(page, "Worklist")
    browser.first_case(page)
    look("case before")
    browser.own_read(page, 2)
    look("case after")
    assert faults == {}, json.dumps(faults, indent=1)
    page.context.close()


def test_narrow_and_enlarged(chrome, server):
    """320 CSS pixels wide (1280 at 400 %): nothing needs scrolling sideways to be read."""
    url, _ = server
    page = browser.open_page(chrome, url, width=320, height=700)
    browser.enter(page, "narrow")
    for title in ("Worklist", "Case"):
        if title == "Case":
            browser.first_case(page)
        browser.settled(page)
        wide = page.evaluate(
            "() => document.querySelector('[data-testid=stMain]').scrollWidth - window.innerWidth"
        )
        assert wide <= 1, title
    page.context.close()


def test_the_second_of_two_evaluations(chrome, report_run, tmp_path):
    """Another evaluation is chosen, its list opens, and so does a case; the address tells nothing."""
    root = tmp_path / "root"
    for name in ("first", "second"):
        shutil.copytree(report_run, root / name)
        record = json.loads((root / name / "run.json").read_text())
        for one in record["parents"]:
            one["path"] = str((report_run / one["path"]).resolve())
        (root / name / "run.json").write_text(
            json.dumps(record | {"ended": f"2026-01-0{len(name) - 4}"})
        )
    port = browser.free_port()
    child = browser.start(root, tmp_path / "book.sqlite", port)
    page = browser.open_page(chrome, f"http://127.0.0.1:{port}/")
    browser.enter(page, "both")
    choice = page.locator('[data-testid="stSidebar"] [data-testid="stSelectbox"] input').first
    for name in ("first", "second", "first"):
        choice.click()
        page.get_by_role("option", name=name, exact=True).click()
        browser.settled(page)
    browser.to(page, "Worklist")
    browser.first_case(page)
    browser.own_read(page, 3)
    assert page.url.rstrip("/").endswith("/case")
    page.context.close()
    browser.stop(child)


def test_planes_only_by_token(server):
    import urllib.error
    import urllib.request

    url, _ = server
    for path in ("planes/guess/0", "planes/../../etc/passwd/0", "thumbs/guess/0"):
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(url + path)
        assert told.value.code in {400, 404, 410}
    # What is no address of a plane is a page of the app, as any other.
    with urllib.request.urlopen(url + "planes/guess/-1") as got:
        assert got.headers["Content-Type"].startswith("text/html")
