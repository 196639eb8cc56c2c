"""The verb pretrain: a cohort's training and unlabelled patients become an encoder."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from medssl import runs
from medssl.cohort import draw
from medssl.cohort import manifest as manifest_room
from medssl.cohort import split as split_room
from medssl.cohort.privacy import check_keys, patient_digest
from medssl.config import MICLeConfig, PretrainConfig
from medssl.errors import NothingUsableError, RefusedError, UsageError
from medssl.methods import build_method
from medssl.methods.base import Method
from medssl.models import weights
from medssl.models.encoder import Encoder, build
from medssl.models.precision import check_precision
from medssl.store import STORED_MAX, Store, open_store
from medssl.train.feed import Feed
from medssl.train.loop import Course, Progress, fit, make_views

STATISTICS_ROWS = 4096
SplitChoice = Literal["file", "none"]


@dataclass(frozen=True)
class Material:
    """The pictures a pretraining may see.

    Attributes:
        store: all decoded pictures of the cohort.
        rows: those of training and unlabelled patients.
        bags: those rows by bag.
        split: digest of the split file, or ``none``.
        manifest: counts of the cohort.
    """

    store: Store
    rows: npt.NDArray[np.int64]
    bags: draw.Bags
    split: str
    manifest: dict[str, Any]


def gather(config: PretrainConfig, data: Path, split: SplitChoice) -> Material:
    """Open a cohort and keep what pretraining may read: nothing of validation and test patients.

    Raises:
        NothingUsableError: no split, no store, or no patient to train on.
        RefusedError: patients without a place in the split.
    """
    manifest = manifest_room.read(data)
    summary = manifest.summary()
    patients = manifest.column("patient_id")
    allowed, digest = set(patients), "none"
    if split == "file":
        place = split_room.read(data)
        split_room.check_covers(place, patients, data)
        allowed = {p for p, where in place.items() if where in {"train", split_room.UNLABELLED}}
        digest = split_room.split_digest(data)
        summary["patients_per_split"] = split_room.counts(place, patients)
    store = open_store(data, config.decode)
    owner = store.column("patient_id")
    rows = np.flatnonzero(np.isin(owner.astype(str), sorted(allowed)))
    if rows.size == 0:
        raise NothingUsableError(f"{data}: no picture of a training patient.", "E-NOTHING")
    store.verify(rows)
    if store.whole and config.views.blur_sigma > 0:
        raise UsageError(
            "views.blur_sigma acts on images only; set it to 0 for whole volumes.", "E-VIEWS"
        )
    if len(set(owner[rows])) < 2:
        words = f"{data}: one training patient; contrast needs at least two."
        raise NothingUsableError(words, "E-ONEPATIENT")
    if split == "file":
        split_room.check_units(data, manifest, place)
    column = config.method.bag if isinstance(config.method, MICLeConfig) else "patient_id"
    bags = draw.make_bags(
        rows, store.column(column)[rows], owner[rows], store.column("pixels")[rows]
    )
    return Material(store, rows, bags, digest, summary)


def planner(config: PretrainConfig, bags: draw.Bags) -> Any:
    """Return the function from an epoch to its plan, after checking that it can be drawn."""
    method = config.method
    if isinstance(method, MICLeConfig):
        draw.check_pairs(bags, config.batch, single_images=method.single_images)
        single = method.single_images
        return lambda epoch: draw.plan_patients(
            bags, config.seed, epoch, config.batch, single_images=single
        )
    return lambda epoch: draw.plan_images(bags, config.seed, epoch, config.batch)


def statistics(store: Store, rows: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return mean and deviation of the pixels in [0, 1] over an even sample of the rows."""
    picked = rows[np.linspace(0, len(rows) - 1, min(len(rows), STATISTICS_ROWS)).astype(np.int64)]
    parts = [store.planes(part) for part in np.array_split(picked, max(1, len(picked) // 256))]
    means = np.array([p.mean(dtype=np.float64) / STORED_MAX for p in parts])
    squares = np.array([((p / STORED_MAX) ** 2).mean(dtype=np.float64) for p in parts])
    share = np.array([len(p) for p in parts]) / len(picked)
    mean = float((means * share).sum())
    return mean, float(np.sqrt(max(1e-8, (squares * share).sum() - mean**2)))


def start_encoder(
    config: PretrainConfig, material: Material
) -> tuple[Encoder, weights.Card | None, dict[str, str]]:
    """Build the encoder, or take a finished run's (``init``) with the card of what it has seen.

    Raises:
        RefusedError: the run's encoder was made for other preprocessing, another network, or
            another key of the same site.
    """
    keys = dict(material.manifest["site_keys"])
    if config.init is None:
        whole = material.store.whole
        return build(config.encoder, config.decode.size, whole=whole, seed=config.seed), None, keys
    folder = Path(config.init)
    runs.finished(folder, "pretrain")
    encoder, card, _ = weights.load_encoder(folder)
    problems = []
    if card.decode != config.decode:
        problems.append(
            f"{folder}: its encoder was fed {card.decode}, this config says {config.decode}."
        )
    if card.encoder != config.encoder:
        problems.append(
            f"{folder}: its encoder is {card.encoder}, this config says {config.encoder}."
        )
    if problems:
        raise RefusedError(
            [*problems, "Use the same decode and encoder settings."], "E-PREPROCESSING"
        )
    check_keys(card.site_keys, keys)
    return encoder, card, {**card.site_keys, **keys}


def pretrain(
    config: PretrainConfig,
    data: Path,
    out: Path,
    *,
    split: SplitChoice = "file",
    resume: bool = False,
    progress: Progress | None = None,
) -> runs.Run:
    """Pretrain an encoder and write it to a run directory.

    Raises:
        MedsslError: see ``gather``, ``planner``, ``start_encoder``, ``open_run`` and ``fit``.
    """
    material = gather(config, data, split)
    plan = planner(config, material.bags)
    encoder, before, keys = start_encoder(config, material)
    check_precision(encoder, config.precision, config.decode.size)
    course = _course(config, material, plan)
    parents = [runs.parent(data, "manifest.parquet")]
    if config.init is not None:
        parents.append(runs.parent(Path(config.init), "encoder.json"))
    facts = {"seed": config.seed, "parents": parents, "manifest": material.manifest}
    facts |= {"split": material.split, "device": device_name()}
    with runs.open_run(out, "pretrain", config, facts, resume=resume) as (run, summary):
        begun = time.monotonic()
        method = build_method(config.method, encoder, config.seed)
        last = fit(method, config, course, run, progress)
        own = {patient_digest(p) for p in material.store.column("patient_id")[material.rows]}
        shown = material.store.picture_digests(material.rows)
        seen = own | set(before.seen if before is not None else ())
        pictures = shown | set(before.pictures if before is not None else ())
        card = weights.Card(
            encoder=config.encoder,
            decode=config.decode,
            mean=course.mean,
            std=course.std,
            site_keys=keys,
            seen=tuple(sorted(seen)),
            pictures=tuple(sorted(pictures)),
            source=str(out.name),
        )
        digest = weights.save_encoder(out, encoder, card)
        summary |= {
            "encoder_sha256": digest,
            "steps": course.total_steps,
            "seconds": round(time.monotonic() - begun, 1),
            "pictures": len(material.rows),
            "patients": len(own),
            "pair_share": round(draw.pair_share(plan(0)), 4),
            **{k: round(v, 4) for k, v in last.items()},
        }
    return runs.read(out)


def _course(config: PretrainConfig, material: Material, plan: Any) -> Course:
    first = plan(0)
    total = config.duration.total_steps(len(first.limits) - 1, config.batch)
    mean, std = statistics(material.store, material.rows)
    return Course(material.store, plan, total, mean, std)


def device_name() -> str:
    """Return the GPU's name, or cpu."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def cost(config: PretrainConfig, data: Path, split: SplitChoice) -> dict[str, Any]:
    """Return counts and an estimate of the time, from two real steps; writes nothing."""
    material = gather(config, data, split)
    plan = planner(config, material.bags)
    encoder, _, _ = start_encoder(config, material)
    check_precision(encoder, config.precision, config.decode.size)
    course = _course(config, material, plan)
    method = build_method(config.method, encoder, config.seed)
    first = plan(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seconds = _time_step(method.to(device), config, course, first)
    return {
        "pictures": len(material.rows),
        "patients": int(np.unique(material.bags.patient).size),
        "two_image_pairs": f"{100 * draw.pair_share(first):.1f} %",
        "steps": course.total_steps,
        "seconds_per_step": round(seconds, 3),
        "images_per_s": round(config.batch * method.images / seconds, 1),
        "minutes": round(seconds * course.total_steps / 60, 1),
        "device": device_name(),
    }


def _time_step(method: Method, config: PretrainConfig, course: Course, plan: draw.Plan) -> float:
    batch = next(iter(Feed(course.store, plan)))
    device = next(method.parameters()).device
    begun = time.monotonic()
    for repeat in range(2):
        begun = time.monotonic() if repeat else begun
        views = make_views(batch, config, 0, course, method.views).to(device)
        method.loss(views, batch.bag.to(device)).total.backward()  # type: ignore[no-untyped-call]
    return time.monotonic() - begun
