"""The viewer's script, and in a real browser its pixels against numpy, its stack and its window."""

import re
import sys

import numpy as np
import pytest
from viewer_seat import (
    FOLDER,
    HEAT,
    LETTERS,
    PADDING,
    PLANES,
    TABLE,
    greys,
    in_browser,
    linear,
    linear_exact,
    near,
    sigmoid,
    sitting,
)

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def seat(tmp_path_factory):
    with sitting(tmp_path_factory.mktemp("viewer")) as one:
        yield one


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


@in_browser
@pytest.mark.parametrize(
    ("name", "curve", "window"),
    [
        ("ct", linear, (40, 400)),
        ("exact", linear_exact, (40, 400)),
        ("sigmoid", sigmoid, (40, 400)),
        ("one wide", linear, (40.5, 1)),
        ("narrow", linear, (40, 9)),
        ("narrow exact", linear_exact, (40, 9)),
    ],
)
def test_windows_follow_the_standard(seat, name, curve, window):
    seat.open(name).press("0")
    assert float(seat.data()["zoom"]) == 1
    box = seat.canvas().bounding_box()
    assert (box["width"], box["height"]) == (48, 60)
    near(seat.grey(), greys(PLANES["ct"][3], curve, *window, blank=PADDING))
    assert (seat.grey()[:4, :5] == 0).all()


@in_browser
def test_padding_is_black_under_every_window(seat):
    seat.open("ct").press("i")
    plane = PLANES["ct"][3]
    expected = 255 - greys(plane, linear, 40, 400)
    near(seat.grey(), np.where(plane == PADDING, 0, expected))


@in_browser
def test_larger_values_of_a_negative_picture_are_darker(seat):
    seat.open("cr")
    expected = 255 - greys(PLANES["cr"][0], linear, 2048, 3000)
    near(seat.grey(), expected)
    assert "inverted" in seat.text("numbers")
    seat.press("i")
    near(seat.grey(), 255 - expected)


@in_browser
def test_a_lookup_table_holds_until_the_window_is_touched(seat):
    seat.open("lut")
    raw = PLANES["cr"][0]
    expected = np.array([[TABLE[min(max(int(v) - 100, 0), 2999)] for v in row] for row in raw])
    near(seat.grey(), np.floor(expected * 255 + 0.5))
    seat.drag_by(30, 0)
    data = seat.data()
    near(seat.grey(), greys(raw, linear, float(data["wc"]), float(data["ww"])))


@in_browser
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


@in_browser
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


@in_browser
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


@in_browser
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


@in_browser
def test_first_plane_first_then_outwards(seat):
    before = len(seat.planes())
    seat.open("ct")
    seat.wait(lambda: len(seat.planes()) - before == 7)
    order = [int(url.rsplit("/", 1)[1]) for url in seat.planes()[before:]]
    assert order == [3, 4, 2, 5, 1, 6, 0]


@in_browser
def test_names_of_slices_and_letters(seat):
    seat.open("vol")
    assert seat.text("index") == "image 5 of 9 · n4"
    assert [seat.text(f"letter.{s}") for s in LETTERS] == list(LETTERS.values())


# ---- window, zoom, pan ---------------------------------------------------------------------------


@in_browser
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


@in_browser
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


@in_browser
def test_middle_drag_and_shift_arrows_pan(seat):
    seat.open("ct").press("0")
    start = seat.canvas().bounding_box()
    seat.drag_by(30, 10, button="middle")
    moved = seat.canvas().bounding_box()
    assert (moved["x"] - start["x"], moved["y"] - start["y"]) == (30, 10)
    seat.press("Shift+ArrowLeft")
    assert seat.canvas().bounding_box()["x"] == moved["x"] - 40
    assert seat.data()["k"] == "3"


@in_browser
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


@in_browser
def test_the_picture_fits_below_three_quarters_of_the_window(seat):
    seat.open("cr")
    stage = seat.page.locator(".stage").first.bounding_box()
    shown = seat.canvas().bounding_box()
    assert stage["height"] <= 750.5
    assert shown["height"] <= stage["height"] + 0.5
    assert np.isclose(shown["height"] / shown["width"], 61 * 0.2 / (47 * 0.1), rtol=1e-3)
