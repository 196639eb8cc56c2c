"""The verb pretrain: a cohort's training and unlabelled patients become an encoder."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medssl import runs
from medssl.cohort import draw
from medssl.cohort.privacy import patient_digest
from medssl.config import PretrainConfig
from medssl.errors import MedsslError, StoppedError
from medssl.methods import build_method
from medssl.methods.base import Seen
from medssl.models import thrift, weights
from medssl.models.encoder import Encoder
from medssl.models.precision import check_precision
from medssl.train import faults, pretext, trackers
from medssl.train import world as world_room
from medssl.train.checkpoints import Note
from medssl.train.course import Course, see
from medssl.train.estimate import estimate
from medssl.train.feed import Feed
from medssl.train.loop import Progress, Setting, fit
from medssl.train.material import Material, SplitChoice, gather, statistics
from medssl.train.observer import Observer, Watched
from medssl.train.panel import Panel, choose
from medssl.train.start import Start, start_encoder
from medssl.train.trackers import Trackers
from medssl.train.watch import Measurement, measure

TOLD = 0.9
"""Share of the asked batch below which a person hears of it."""


def speaks() -> bool:
    """Return whether this process is the one of its job that a person hears."""
    return world_room.find().first


def _nothing(_: str) -> None:
    return None


def pretrain(
    config: PretrainConfig,
    data: Path,
    out: Path,
    *,
    split: SplitChoice = "file",
    resume: bool = False,
    progress: Progress | None = None,
    note: Note = _nothing,
) -> runs.Run:
    """Pretrain an encoder and write it to a run directory.

    Under torchrun or SLURM every process calls this; the first one writes.

    Returns:
        The finished run; in all but the first process a run with an empty record.

    Raises:
        MedsslError: see ``gather``, ``start_encoder``, ``open_run`` and ``fit``.
    """
    world = world_room.find()
    faults.check_world(config, world)
    trackers.check(config.log)
    material = gather(config, data, split, world)
    start = start_encoder(config, material)
    _prepare(start.encoder, config)
    course = course_of(config, material)
    panel = _panel(config, data, material) if world.first else None
    for words in panel.notes if panel is not None else ():
        note(words)
    facts = _facts(config, data, material, start) | {"processes": world.size}
    facts["total_steps"] = course.total_steps
    place: AbstractContextManager[tuple[runs.Run, dict[str, Any]]] = nullcontext(
        (runs.Run(out), {})
    )
    if world.first:
        place = runs.open_run(out, "pretrain", config, facts, resume=resume)
    with place as (run, summary):
        for words in _beginnings(config, course, run):
            note(words)
        method = build_method(config.method, start.encoder, config.seed)
        with _following(run, config, note) if world.first else nullcontext(None) as follow:
            watched = _watched(config, material, course, start, panel)
            observer = Observer(run, config, course.total_steps, watched, follow, note)
            with world_room.joined(world):
                done = fit(method, config, course, Setting(run, world, observer, progress, note))
            if not world.first:
                return run
            kept = observer.finish(start.encoder)
        back = bool(kept.get("rolled_back"))
        card = _card(config, material, course, start, panel, source=out.name, back=back)
        summary |= {
            "encoder_sha256": weights.save_encoder(out, start.encoder, card),
            "steps": course.total_steps,
            "seconds": round(done.seconds, 1),
            "pictures": len(material.rows),
            "patients": material.policy.patients,
            "pair_share": round(draw.pair_share(course.plan(0)), 4),
            **{k: round(v, 4) for k, v in done.figures.items()},
            **kept,
            **start.told,
        }
        if config.log.pictures:
            pretext.write(run, method, config, course, note)
    return runs.read(out)


def _beginnings(config: PretrainConfig, course: Course, run: runs.Run) -> Iterator[str]:
    """Say what a person may not expect: batches smaller than asked, another torch than at the start."""
    sizes = np.diff(course.plan(0).limits)
    if len(sizes) and sizes.max() < TOLD * config.batch:
        yield (
            f"Batches hold {sizes.max()} (batch={config.batch}): {sizes.sum()} are shared out equally to "
            f"{len(sizes)} batches, the negatives of each being its own."
        )
    resumed = run.record.get("resumed", [])
    changed = resumed[-1]["versions_changed"] if resumed else {}
    if changed:
        told = ", ".join(f"{k} {old} then, {new} now" for k, (old, new) in changed.items())
        yield f"This run began under other versions ({told}); its numbers may part. [W-VERSIONS]"


def _facts(config: PretrainConfig, data: Path, material: Material, start: Start) -> dict[str, Any]:
    """Return what ``run.json`` says of where a run came from."""
    parents = [runs.parent(data, "manifest.parquet")]
    if config.init is not None:
        parents.append(runs.parent(Path(config.init), "encoder.json"))
    facts = {"seed": config.seed, "parents": parents, "manifest": material.manifest}
    facts |= {"split": material.split, "device": device_name()}
    return facts | ({"foreign": [asdict(f) for f in start.foreign]} if start.foreign else {})


def _panel(config: PretrainConfig, data: Path, material: Material) -> Panel | None:
    if config.watch.every == 0:
        return None
    return choose(material.store, data, material.rows, material.place, config.watch, config.seed)


@contextmanager
def _following(run: runs.Run, config: PretrainConfig, note: Note) -> Iterator[Trackers]:
    """Hold the trackers of a run, and tell them how it ended."""
    settings = config.model_dump(mode="json")
    held = Trackers(config.log, run.path, settings, run.path.name, note)
    status = "failed"
    try:
        yield held
        status = "done"
    except StoppedError:
        status = "stopped"
        raise
    finally:
        held.close(status)


def _watched(
    config: PretrainConfig, material: Material, course: Course, start: Start, panel: Panel | None
) -> Watched | None:
    if panel is None:
        return None

    def see(encoder: Encoder) -> Measurement:
        return measure(encoder, material.store, panel, course.mean, course.std)

    first = None
    if config.watch.guard and start.card is not None:
        first = measure(start.encoder, material.store, panel, start.card.mean, start.card.std)
    return Watched(panel, see, first)


def _card(
    config: PretrainConfig,
    material: Material,
    course: Course,
    start: Start,
    panel: Panel | None,
    *,
    source: str,
    back: bool,
) -> weights.Card:
    """Return what travels with the encoder: all that it, or its choice, has seen.

    Args:
        config, material, course, start, panel: of the training.
        source: name of the run.
        back: the start was kept, so its normalisation holds.
    """
    before = start.card
    own = {patient_digest(p) for p in material.store.column("patient_id")[material.rows]}
    shown = material.store.picture_digests(material.rows)
    normal = before if back and before is not None else course
    return weights.Card(
        encoder=config.encoder,
        decode=config.decode,
        mean=normal.mean,
        std=normal.std,
        site_keys=start.keys,
        seen=tuple(sorted(own | set(before.seen if before is not None else ()))),
        pictures=tuple(sorted(shown | set(before.pictures if before is not None else ()))),
        source=source,
        foreign=start.foreign,
        chosen=tuple(sorted(_chose(config, panel) | set(before.chosen if before else ()))),
    )


def _chose(config: PretrainConfig, panel: Panel | None) -> set[str]:
    """Return digests of the validation patients whose labels chose which weights are kept."""
    labelled = panel.labelled if panel is not None else None
    asked = config.watch.guard or config.watch.keep in {"ridge", "knn"}
    if labelled is None or not asked or not labelled.validation:
        return set()
    return {patient_digest(str(p)) for p in labelled.patient[labelled.asked]}


def _prepare(encoder: Encoder, config: PretrainConfig) -> None:
    """Check and set how the encoder computes."""
    check_precision(encoder, config.precision, config.decode.size)
    encoder.chunk = config.chunk
    if config.checkpointing:
        thrift.forget_blocks(encoder.net, config.encoder.name)


def course_of(config: PretrainConfig, material: Material) -> Course:
    """Return how long a training is and what it reads."""
    plan = material.policy.plan
    first = plan(0)
    steps = (len(first.limits) - 1) // config.accumulate
    total = config.duration.total_steps(steps, len(first.patient))
    mean, std = statistics(material.store, material.rows)
    return Course(material.store, plan, total, mean, std)


def device_name() -> str:
    """Return the GPU's name, or cpu."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def cost(
    config: PretrainConfig,
    data: Path,
    split: SplitChoice = "file",
    out: Path | None = None,
    note: Note = _nothing,
) -> dict[str, Any]:
    """Return counts, time, memory and the largest batch that fits, from real steps; writes nothing."""
    material = gather(config, data, split)
    start = start_encoder(config, material)
    _prepare(start.encoder, config)
    course = course_of(config, material)
    _panel(config, data, material)
    method = build_method(config.method, start.encoder, config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plan = course.plan(0)
    drawn_size = int(np.diff(plan.limits).max())
    note("Measuring a few real steps; this takes about ten of them.")

    def batch_of(samples: int) -> Seen:
        places = np.arange(samples) % len(plan.patient)
        drawn = draw.Plan(plan.rows[places], plan.patient[places], np.array([0, samples]))
        batch = next(iter(Feed(course.store, drawn))).to(device)
        return see(batch, config, 0, course, method)

    try:
        facts = estimate(
            config.model_copy(update={"batch": drawn_size}),
            method.to(device),
            batch_of,
            steps=course.total_steps,
            most=len(plan.patient),
            folder=out if out is not None else Path(),
        )
    except torch.OutOfMemoryError as error:
        words = (
            f"Even a small batch of {config.decode.size} pixels does not fit the GPU's memory beside "
            f"what else runs there; use a smaller encoder than {config.encoder.name}, or a smaller size."
        )
        raise MedsslError(words, "E-OOM") from error
    if config.compile:
        facts["step_time"] += ", without compile"
    return {
        "pictures": len(material.rows),
        "patients": material.policy.patients,
        "two_image_pairs": f"{100 * draw.pair_share(plan):.1f} %",
        "steps": course.total_steps,
        "samples_in_a_batch": f"{drawn_size} (batch={config.batch})",
        **facts,
        "device": device_name(),
        **start.told,
    }
