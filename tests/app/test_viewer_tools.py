"""The viewer in a real browser: measuring, comparing, touching, telling Python, and for everyone."""

import re

import numpy as np
import pytest
from viewer_seat import PADDING, PLANES, greys, in_browser, linear, near, sitting

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def seat(tmp_path_factory):
    with sitting(tmp_path_factory.mktemp("viewer")) as one:
        yield one


# ---- values, ruler, box --------------------------------------------------------------------------


@in_browser
@pytest.mark.parametrize(("x", "y"), [(10, 20), (47, 59), (1, 1)])
def test_value_under_the_pointer(seat, x, y):
    seat.open("ct")
    seat.page.mouse.move(*seat.point(x + 0.5, y + 0.5))
    value = PLANES["ct"][3, y, x]
    said = "outside the picture" if value == PADDING else f"{value} HU"
    assert seat.text("value") == f"x {x} y {y}: {said}"


@in_browser
def test_ruler_uses_both_spacings(seat):
    seat.open("cr").press("m")
    seat.drag((5, 8), (35, 48))
    mm = float(seat.text("length").removesuffix(" mm"))
    assert abs(mm - np.hypot(30 * 0.1, 40 * 0.2)) < 0.06
    seat.press("Escape")
    assert seat.page.locator(".stage .length").first.is_hidden()


@in_browser
def test_ruler_without_spacing_says_uncalibrated(seat):
    seat.open("lut").press("m")
    seat.drag((5, 8), (35, 48))
    assert seat.text("length") == "uncalibrated: 50 px"
    assert seat.text("scale") == "uncalibrated"
    assert seat.page.locator(".stage .bar").first.is_hidden()
    seat.press("Escape")


@in_browser
def test_scale_bar_is_round_and_true(seat):
    seat.open("cr").press("0", "+", "+", "+", "+")
    bar = seat.page.locator(".stage .bar").first.bounding_box()["width"]
    number, unit = seat.text("scale").split()
    mm = float(number) * (10 if unit == "cm" else 1)
    assert str(mm).strip("0.")[0] in "125"
    assert abs(bar - mm / 0.1 * float(seat.data()["zoom"])) < 1


@in_browser
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


@in_browser
def test_window_from_a_box(seat):
    seat.open("ct").press("k")
    seat.drag((10.2, 20.2), (29.8, 39.8))
    inside = PLANES["ct"][3, 20:40, 10:30]
    low, high = np.percentile(inside, [1, 99], method="inverted_cdf")
    data = seat.data()
    assert (float(data["wc"]), float(data["ww"])) == ((low + high + 1) / 2, high - low + 1)


# ---- several views -------------------------------------------------------------------------------


@in_browser
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


@in_browser
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


@in_browser
def test_blinking_alternates_and_respects_reduced_motion(seat):
    seat.open("pair").press("s")
    seat.press("z")
    shown = seat.page.locator(".pane:not([hidden]) .name")
    first = shown.text_content()
    seat.wait(lambda: shown.text_content() != first)
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


@in_browser
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


@in_browser
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


@in_browser
def test_keys_are_listed_and_escape_closes_the_list(seat):
    seat.open("ct").press("?")
    panel = seat.page.get_by_role("dialog")
    assert panel.is_visible()
    assert "Agree, disagree, can't tell" in panel.text_content()
    seat.press("a")
    seat.press("Escape")
    assert panel.is_hidden()
    seat.wait(lambda: seat.told()["acts"][-1]["what"] == "help")


@in_browser
def test_an_unrelated_rerun_changes_nothing_and_fetches_nothing(seat):
    seat.open("ct").press("2", "End", "+", "i")
    seat.wait(lambda: seat.told()["slice"] == 6)
    before, asked, drawn = seat.data(), len(seat.planes()), seat.grey()
    seat.page.get_by_role("button", name="unrelated").click()
    seat.page.wait_for_timeout(400)
    assert seat.data() == before
    assert (seat.grey() == drawn).all()
    assert len(seat.planes()) == asked


@in_browser
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


@in_browser
def test_hostile_text_is_shown_as_text(seat):
    seat.open("hostile")
    assert seat.page.locator(".pane .name").text_content() == "<img src=x onerror=alert(1)>"
    assert seat.canvas().get_attribute("aria-label").startswith("<b>bold</b>, ")
    assert seat.page.locator(".viewer img").count() == 0


@in_browser
def test_the_focus_stays_on_the_picture_when_the_next_case_comes(seat):
    seat.open("ct")
    seat.page.locator("[data-command=invert]").focus()
    find = (
        "() => [...document.querySelectorAll('button')].find(b => b.textContent === 'cr').click()"
    )
    seat.opened("cr", lambda: seat.page.evaluate(find))
    seat.wait(lambda: seat.canvas().evaluate("c => c.getRootNode().activeElement === c"))


@in_browser
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


@in_browser
def test_closed_images_say_so_and_foreign_addresses_are_never_asked(seat):
    seat.open("gone", ready=False)
    seat.wait(lambda: "have been closed" in (seat.text("note") or ""))
    for name in ("outside", "upwards", "relative"):
        seat.open(name, ready=False)
        seat.wait(lambda: "could not be loaded" in (seat.text("note") or ""))
    assert not [url for url in seat.requests if re.search("example.org|elsewhere", url)]


@in_browser
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


@in_browser
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


@in_browser
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


@in_browser
def test_the_toolbar_is_one_tab_stop(seat):
    seat.open("ct")
    buttons = seat.page.locator(".bar button[tabindex='0']")
    assert buttons.count() == 1
    buttons.focus()
    seat.press("ArrowRight")
    focused = "() => document.activeElement.shadowRoot.activeElement.dataset.command"
    assert seat.page.evaluate(focused) == "scroll"


@in_browser
def test_nothing_was_asked_of_another_machine(seat):
    outside = [url for url in seat.requests if not url.startswith((seat.url, "data:", "blob:"))]
    assert not outside
