"""What the viewer is told: the case, this patient's other images, and what comes next."""

import secrets
from typing import Any

import streamlit as st

import frame
import pixels
import text
from evaluations import Key, Review, short
from frame import Desk
from medssl.originals import Original
from shelf import SHELF

MOST_OTHERS = 6
PRESETS = {
    "CT": (
        ("soft tissue", 40, 400), ("lung", -600, 1500), ("bone", 300, 1500), ("brain", 40, 80),
        ("liver", 60, 160), ("mediastinum", 50, 350),
    ),
}  # fmt: skip


def session() -> str:
    """Return a random name of this browser session."""
    return str(st.session_state.setdefault("session", secrets.token_hex(8)))


def source_of(review: Review) -> pixels.Source:
    """Return where the pictures of an evaluation come from."""
    return pixels.Source(review.cohort, dict(review.report["model"].get("decode", {})))


def payload(
    desk: Desk, case: int, order: list[int], heat: dict[str, Any] | None
) -> dict[str, Any] | str:
    """Return what the viewer draws for a case; a sentence where there is no picture of it.

    Args:
        desk: the evaluation at hand.
        case: which case.
        order: the reader's list, to know what comes next.
        heat: where the model looked, as the viewer takes it; None for none.
    """
    review, source = desk.at, source_of(desk.at)
    key = review.keys[case]
    found = pixels.opened(source, session(), key[0], pixels.FRONT)
    if isinstance(found, str):
        return found
    token, original, remark = found
    first = pane(review, key, token, original)
    first |= {"label": text.THIS_IMAGE, "frame": "blue", "heat": heat}
    others = _others(review, source, case)
    # Panes are told apart by their place: another set of them is another picture to the browser.
    shown = [key[0], *(image for image, _ in others)]
    return {
        "id": frame.digest("|".join([session(), *shown, str(key[1])])),
        "panes": [first, *(one for _, one in others)],
        "next": _next(review, source, case, order),
        "habits": {"drag": st.session_state.get("habit_drag", "window")},
        "remark": remark,
    }


def pane(review: Review, key: Key, token: str, original: Original) -> dict[str, Any]:
    """Return one picture as the viewer takes it."""
    facts, values = original.facts, original.values
    voi = facts["voi"]
    header = review.manifest.get(key[0], {})
    presets = PRESETS.get(str(header.get("modality")), ()) if facts["units"] == "HU" else ()
    return {
        "url": f"/planes/{token}",
        "slices": int(values.shape[0]),
        "rows": int(values.shape[1]),
        "cols": int(values.shape[2]),
        "dtype": facts["dtype"],
        "blank": facts["blank"],
        "low": facts["low"],
        "high": facts["high"],
        "window": None if voi is None else {"centre": voi["centre"], "width": voi["width"]},
        "curve": "LINEAR" if voi is None else voi["curve"],
        "lut": None if voi is None else voi["lut"],
        "invert": bool(facts["inverted"]),
        "presets": [{"name": n, "centre": c, "width": w} for n, c, w in presets],
        "units": facts["units"],
        "spacing": facts["spacing"],
        "calibrated": facts["calibrated"],
        "letters": facts["letters"],
        "planes": bool(facts["volume"]),
        "start": start_of(facts["slice_index"], key[1]),
        "names": None,
        "alt": text.ALT.format(code=code_of(key), what=view_of(review, key[0])),
    }


def start_of(slice_index: list[int], place: int) -> int:
    """Return which plane shows a case: its own slice, or the middle of a volume read as a whole."""
    return slice_index.index(place) if place in slice_index else len(slice_index) // 2


def code_of(key: Key) -> str:
    """Return the name of a case that a person reads."""
    return key[0] if key[1] < 0 else f"{key[0]}, {text.LABEL_SLICE.format(k=key[1] + 1)}"


def view_of(review: Review, image_id: str) -> str:
    """Return view, side and body part of an image in words."""
    row = review.manifest.get(image_id, {})
    words = [row.get(n) for n in ("modality", "body_part", "view", "laterality")]
    return " ".join(short(w) for w in words if w) or text.UNKNOWN_VIEW


def when_of(review: Review, image_id: str) -> str:
    """Return when an image was taken, by year and days since the patient's first study."""
    row = review.manifest.get(image_id, {})
    day, year = row.get("day"), row.get("year")
    when = ""
    if day is not None:
        when = text.FIRST_DAY if day == 0 else text.LATER.format(days=day)
    if year is None:
        return when
    return text.YEAR_DAY.format(year=year, when=when) if when else str(year)


def _others(review: Review, source: pixels.Source, case: int) -> list[tuple[str, dict[str, Any]]]:
    """Return this patient's other images and their panes, the case's own left out."""
    own = review.keys[case][0]
    out: list[tuple[str, dict[str, Any]]] = []
    seen = {own}
    for k in review.of_patient[review.column_at("patient_id", case)]:
        key = review.keys[k]
        if key[0] in seen or len(out) == MOST_OTHERS:
            continue
        seen.add(key[0])
        found = pixels.opened(source, session(), key[0], pixels.FRONT)
        if isinstance(found, str):
            continue
        what = f"{view_of(review, key[0])}, {_apart(review, own, key[0])}"
        label = text.OTHER_IMAGE.format(what=what)
        made = pane(review, key, found[0], found[1])
        out.append((key[0], made | {"label": label, "frame": "orange", "heat": None}))
    return out


def _apart(review: Review, own: str, other: str) -> str:
    days = [review.manifest.get(i, {}).get("day") for i in (own, other)]
    if days[0] is None or days[1] is None:
        return text.NO_DAY
    gap = int(days[1]) - int(days[0])
    if gap == 0:
        return text.SAME_STUDY
    return (text.EARLIER if gap < 0 else text.LATER_STUDY).format(days=abs(gap))


def _next(
    review: Review, source: pixels.Source, case: int, order: list[int]
) -> list[dict[str, Any]]:
    """Have the next two cases opened, and name those that already are to the browser."""
    at = order.index(case) if case in order else -1
    coming = [review.keys[k] for k in order[at + 1 : at + 3]]
    out = []
    for key in coming:
        found = SHELF.find(session(), f"{source.cohort}|{key[0]}")
        if found is not None:
            start = start_of(found[1].facts["slice_index"], key[1])
            slices = int(found[1].values.shape[0])
            out.append({"url": f"/planes/{found[0]}", "slices": slices, "start": start})
    images = [key[0] for key in coming]
    for k in order[at + 1 : at + 3]:
        mine = review.of_patient[review.column_at("patient_id", k)][: MOST_OTHERS + 1]
        images += [review.keys[j][0] for j in mine]
    pixels.ahead(source, session(), list(dict.fromkeys(images)))
    return out
