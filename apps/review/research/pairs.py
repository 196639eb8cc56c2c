"""The page Positive pairs: what a policy draws together, and what every augmentation does."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

import frame
import text_research as text
from evaluations import short
from medssl import preview
from medssl import store as store_room
from medssl.cohort import draw
from medssl.cohort import labels as label_room
from medssl.config import (
    MethodConfig,
    MICLeConfig,
    PairSettings,
    PretrainConfig,
    SimCLRConfig,
    ViewsConfig,
)
from medssl.errors import MedsslError
from medssl.loading import to_yaml
from medssl.store import STORED_MAX, Store
from research import charts, records, told

ANCHORS, ACROSS = 12, 4
GAP = 2
BINS = 32
# Shown with the setting whose share they are, or of use to colour pictures only.
BESIDE = {n for n in ViewsConfig.model_fields if n.endswith("_probability")} - {
    "equalise_probability"
} | {"saturation", "hue_deg"}


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(text.PAIRS_TITLE, text.PAIRS_PURPOSE)
    entries = [e for e in records.find(desk.root) if e.verb == "pretrain" and e.cohort]
    names = {e.name: e for e in entries}
    if not names:
        st.info(text.NO_PRETRAIN)
        return
    picked = st.selectbox(text.PICK_PRETRAIN, list(names), format_func=short, key="pairs_run")
    entry = names[picked]
    try:
        config, store, rows = _material(entry)
    except MedsslError as error:
        told.trouble(error)
        return
    epoch = int(st.number_input(text.EPOCH, 0, 100_000, 0, key="pairs_epoch"))
    label = _labels(entry, store)
    drawn = _policy(entry, config, store, rows, epoch)
    if drawn is not None:
        _anchors(config, store, drawn, epoch, label)
    _shares(config, store, rows, epoch, label)
    _augment(entry, config, store, rows, epoch)


def _material(entry: records.Entry) -> tuple[PretrainConfig, Store, npt.NDArray[np.int64]]:
    config = records.settings(entry)
    cohort = entry.cohort
    assert isinstance(config, PretrainConfig)  # noqa: S101
    assert cohort is not None  # noqa: S101
    with records.reading(cohort / "store"):
        store = store_room.open_store(cohort, config.decode)
        split = entry.record.get("split") != "none"
        return config, store, preview.trained_rows(cohort, store, split=split)


def _labels(entry: records.Entry, store: Store) -> npt.NDArray[Any]:
    """Return the known answer of every stored picture for a label that the reader chooses."""
    found = np.full(len(store), None, dtype=object)
    cohort = entry.cohort
    assert cohort is not None  # noqa: S101
    file = cohort / "labels.parquet"
    try:
        with records.reading(file):
            names = label_room.available(cohort)
        options = [*names, text.NO_LABEL]
        picked = st.selectbox(text.PAIR_LABEL, options, format_func=short, key="pairs_label")
        with records.reading(file):
            known = label_room.read(cohort, picked) if picked in names else label_room.Known({})
    except MedsslError as error:
        told.trouble(error)
        return found
    items = zip(store.column("image_id"), store.column("slice"), strict=True)
    found[:] = [label_room.lookup(known, str(i), int(s)) for i, s in items]
    return found


def _method(name: str, *, single: bool) -> MethodConfig:
    if name == "simclr":
        return SimCLRConfig(name="simclr")
    return MICLeConfig.model_validate({"name": "micle", "bag": name, "single_images": single})


def _own(config: PretrainConfig) -> str:
    """Return the run's own policy; a task of slices in a row has none of these."""
    method = config.method
    if method.drawn in {"neighbours", "triples"}:
        return ""
    paired = isinstance(method, PairSettings) and method.drawn == "pairs"
    return method.bag if paired else "simclr"


def _policy_name(own: str, name: str) -> str:
    words = text.POLICIES[name]
    return text.OWN_POLICY.format(words=words) if name == own else words


def _policy(
    entry: records.Entry,
    config: PretrainConfig,
    store: Store,
    rows: npt.NDArray[np.int64],
    epoch: int,
) -> draw.Plan | None:
    if config.method.drawn in {"neighbours", "triples"}:
        st.info(text.OF_SLICES.format(task=frame.escape(config.method.name)))
    own = _own(config)
    names = list(text.POLICIES)
    picked = st.selectbox(
        text.POLICY,
        names,
        index=names.index(own) if own else 0,
        format_func=partial(_policy_name, own),
        key=f"pairs_policy_{own}",
    )
    whole = getattr(config.method, "single_images", True)
    single = st.checkbox(text.SINGLE, whole, key="pairs_single", disabled=picked == "simclr")
    method = _method(picked, single=single)
    if picked == own and own != "simclr":
        # The run's own settings: near slices only, another series only.
        method = config.method.model_copy(update={"single_images": single})
    try:
        return preview.plan(
            store,
            rows,
            method,
            seed=config.seed,
            epoch=epoch,
            batch=config.batch,
            cohort=entry.cohort,
        )
    except MedsslError as error:
        told.trouble(error)
        return None


def _anchors(
    config: PretrainConfig, store: Store, drawn: draw.Plan, epoch: int, label: npt.NDArray[Any]
) -> None:
    st.header(text.ANCHORS)
    st.markdown(text.ANCHORS_WHY.format(epoch=epoch, seed=config.seed))
    places = slice(0, min(ANCHORS, len(drawn.rows)))
    try:
        with records.reading(store.path):
            sides = preview.pairs(
                store, drawn, config.views, seed=config.seed, epoch=epoch, places=places
            )
    except MedsslError as error:
        told.trouble(error)
        return
    patient = store.column("patient_id")
    for start in range(0, places.stop, ACROSS):
        for column, k in zip(st.columns(ACROSS), range(start, start + ACROSS), strict=True):
            if k < places.stop:
                first, second = int(drawn.rows[k, 0]), int(drawn.rows[k, -1])
                with column:
                    picture = _beside(sides[0][k], sides[1][k])
                    _pair(
                        k,
                        picture,
                        str(patient[first]),
                        first != second,
                        (label[first], label[second]),
                    )


def _beside(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    gap = np.ones((len(one), GAP))
    return _grey(np.hstack([one, gap, two]))


def _grey(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return (255 * picture).round().astype(np.uint8)


def _pair(
    k: int, picture: npt.NDArray[np.uint8], patient: str, two: bool, label: tuple[Any, Any]
) -> None:
    what = text.TWO_PICTURES if two else text.ONE_PICTURE
    st.image(
        picture,
        width="stretch",
        alt=text.PAIR_ALT.format(k=k + 1, patient=short(patient), what=what),
    )
    words = text.PAIR_WORDS.format(patient=frame.escape(patient), what=what)
    st.caption(f"{words}; {_agreement(*label, two)}")


def _agreement(one: str | None, two: str | None, several: bool) -> str:
    if one is None or two is None:
        return text.UNLABELLED
    if not several:
        return text.OF_LABEL.format(one=frame.escape(one))
    if one == two:
        return text.AGREE.format(one=frame.escape(one))
    return text.DIFFER.format(one=frame.escape(one), two=frame.escape(two))


def _shares(
    config: PretrainConfig,
    store: Store,
    rows: npt.NDArray[np.int64],
    epoch: int,
    label: npt.NDArray[Any],
) -> None:
    st.header(text.SHARES)
    table, refused = [], []
    for name in text.POLICIES:
        row = {text.POLICY: _policy_name(_own(config), name)}
        try:
            method = _method(name, single=True)
            drawn = preview.plan(
                store, rows, method, seed=config.seed, epoch=epoch, batch=config.batch
            )
        except MedsslError as error:
            refused.append(
                text.REFUSED.format(policy=row[text.POLICY], why=" ".join(error.problems))
            )
            continue
        found = preview.shares(drawn, rows, label, store.column("patient_id"))
        row |= {text.DRAWN: str(found.pairs), text.TWO_SHARE: _percent(found.two)}
        row |= {text.AGREE_SHARE: _percent(found.agree), text.AGREE_CHANCE: _percent(found.chance)}
        table.append(row)
    st.dataframe(table, hide_index=True, alt=text.SHARES_ALT, key="pairs_shares")
    for words in refused:
        st.caption(told.whole(words))


def _percent(share: float | None) -> str:
    return "" if share is None else text.PERCENT.format(n=100 * share)


def _augment(
    entry: records.Entry,
    config: PretrainConfig,
    store: Store,
    rows: npt.NDArray[np.int64],
    epoch: int,
) -> None:
    st.header(text.AUGMENT)
    st.markdown(text.AUGMENT_WHY)
    run = frame.tag(entry.path)
    knobs, shown = st.columns([1, 2])
    with knobs:
        place = int(st.number_input(text.ANCHOR, 0, len(rows) - 1, 0, key=f"pairs_anchor_{run}"))
        seed = int(
            st.number_input(text.VIEW_SEED, 0, 2**31 - 1, config.seed, key=f"pairs_seed_{run}")
        )
        st.button(text.RESET, on_click=partial(_reset, run), key=f"pairs_reset_{run}")
        views = _sliders(config.views, run)
    if store.whole and views.blur_sigma > 0:
        views = views.model_copy(update={"blur_sigma": 0.0})
        st.info(text.VOLUME_BLUR)
    try:
        with records.reading(store.path):
            planes = store.planes(rows[[place]])
    except MedsslError as error:
        told.trouble(error)
    else:
        with shown:
            _effects(planes, views, seed, (epoch, place))
    st.header(text.YAML)
    lines = to_yaml(views).splitlines()
    st.code("\n".join(["views:", *(f"  {line}" for line in lines)]), language="yaml")


def _reset(run: str) -> None:
    for name in ViewsConfig.model_fields:
        st.session_state.pop(f"pairs_{name}_{run}", None)


def limits(name: str) -> tuple[float, float, float]:
    """Return the ends of a setting's slider and its step, from the setting's own bounds."""
    told_bounds = ViewsConfig.model_fields[name].metadata
    low = next((m.ge for m in told_bounds if hasattr(m, "ge")), 0.0)
    top = next((m.le for m in told_bounds if hasattr(m, "le")), None)
    below = next((m.lt for m in told_bounds if hasattr(m, "lt")), 1.0)
    high = float(below) - 0.01 if top is None else float(top)
    return float(low), high, 1.0 if high > 100 else 0.1 if high > 1 else 0.01


def _sliders(views: ViewsConfig, run: str) -> ViewsConfig:
    """Draw a control per augmentation, named and helped by the settings themselves."""
    values: dict[str, Any] = {}
    for name, field in ViewsConfig.model_fields.items():
        key, own = f"pairs_{name}_{run}", getattr(views, name)
        words = text.SETTING_NAMES[name]
        if isinstance(own, bool):
            values[name] = st.checkbox(words, own, key=key, help=field.description)
        elif isinstance(own, tuple):
            values[name] = st.slider(words, 0.01, 1.0, own, 0.01, key=key, help=field.description)
        else:
            low, high, step = limits(name)
            at = min(float(own), high)
            values[name] = st.slider(words, low, high, at, step, key=key, help=field.description)
    return ViewsConfig.model_validate(values)


def _effects(
    planes: npt.NDArray[np.uint16], views: ViewsConfig, seed: int, at: tuple[int, int]
) -> None:
    epoch, place = at
    places = slice(place, place + 1)

    def made(config: ViewsConfig) -> npt.NDArray[Any]:
        return preview.view(planes, config, seed=seed, epoch=epoch, number=0, places=places)[0]

    before, after = preview.middle(planes)[0] / STORED_MAX, made(views)
    one, two, three = st.columns(3)
    with one:
        st.image(
            _grey(before), caption=text.BEFORE, width="stretch", alt=text.BEFORE_ALT.format(k=place)
        )
    with two:
        words = text.AFTER_ALT.format(seed=seed, mean=after.mean(), before=before.mean())
        st.image(_grey(after), caption=text.AFTER, width="stretch", alt=words)
    with three:
        _histogram(before, after)
    names = [n for n in ViewsConfig.model_fields if n not in BESIDE]
    for start in range(0, len(names), ACROSS + 1):
        part = names[start : start + ACROSS + 1]
        for column, name in zip(st.columns(ACROSS + 1), part, strict=False):
            words = text.SETTING_NAMES[name]
            lone = preview.only(views, name)
            off = "" if lone != preview.OFF else f" {text.NO_CHANGE}"
            alt = text.ONLY_ALT.format(name=words, seed=seed)
            with column:
                st.image(_grey(made(lone)), caption=f"{words}{off}", width="stretch", alt=alt)


def _histogram(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> None:
    edges = np.linspace(0, 1, BINS + 1)
    both = [
        (n, 100 * np.histogram(p, edges)[0] / p.size)
        for n, p in ((text.BEFORE, before), (text.AFTER, after))
    ]
    alt = text.HISTOGRAM_ALT.format(before=before.mean(), after=after.mean())
    figure = charts.steps(both, edges, text.GREY, text.SHARE)
    st.plotly_chart(figure, config=charts.QUIET, alt=alt, key="pairs_histogram")
    with st.expander(text.AS_TABLE.format(what=text.HISTOGRAM)):
        rows = [
            {text.GREY: f"{edges[k]:.2f}", **{n: round(float(c[k]), 2) for n, c in both}}
            for k in range(BINS)
        ]
        st.dataframe(rows, hide_index=True, alt=alt, key="pairs_histogram_numbers")
