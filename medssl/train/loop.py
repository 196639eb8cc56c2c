"""The only file that knows Lightning's Trainer: one module, one callback, one fit.

A resumed run is a new Trainer that starts at an offset: order and views are functions of the epoch,
so the state is the method, the optimiser and the schedule, and nothing of Lightning's own loops.
"""

import contextlib
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor

from medssl.cohort.draw import Plan, pair_share
from medssl.config import PretrainConfig
from medssl.errors import MedsslError
from medssl.methods.base import Loss, Method
from medssl.models.encoder import synchronise
from medssl.runs import Run
from medssl.train import checkpoints, faults, optim
from medssl.train.collapse import Verdict
from medssl.train.course import Course, see
from medssl.train.feed import Batch, Feed
from medssl.train.observer import Observer
from medssl.train.stopping import Asked, leave, listening
from medssl.train.world import World, anyone, environment, together, told

Progress = Callable[[int, int, dict[str, float]], None]
RANK_SEED = 20


@dataclass(frozen=True)
class Setting:
    """Where a training takes place.

    Attributes:
        run: its directory.
        world: the processes that train together.
        observer: what is measured while training, and what follows; the first process's matter.
        progress: called after every step with step, total and figures.
        note: called with a sentence that a person should read now.
    """

    run: Run
    world: World
    observer: Observer
    progress: Progress | None
    note: Callable[[str], None]


class _Module(pl.LightningModule):
    def __init__(
        self, method: Method, config: PretrainConfig, course: Course, world: World, state: Any
    ) -> None:
        super().__init__()
        self.method, self.config, self.course = method, config, course
        self.world, self.state = world, state
        self.now: Plan | None = None
        self.feed: Feed | None = None
        self.before = 0.0
        self.seen = 0
        self.last: dict[str, float] = {}
        self.rate = 0.0

    @property
    def step(self) -> int:
        return int(self.state.step + self.trainer.global_step)

    @property
    def epoch(self) -> int:
        return int(self.state.epoch + self.trainer.current_epoch)

    @property
    def first_batch(self) -> int:
        """Return the batch at which this process began the epoch under way."""
        return int(self.state.batch) if self.trainer.current_epoch == 0 else 0

    @property
    def waited(self) -> float:
        """Return the seconds waited for batches since this process began."""
        return self.before + (self.feed.waited if self.feed is not None else 0.0)

    def train_dataloader(self) -> Feed:
        self.now = self.course.plan(self.epoch)
        self.seen, self.before = 0, self.waited
        self.feed = Feed(
            self.course.store, self.now, self.world.rank, self.world.size, self.first_batch
        )
        return self.feed

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        return batch.to(device)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        # Dropout and the like draw from the step, so that a resumed run repeats them.
        turn = self.step * self.config.accumulate + index % self.config.accumulate
        torch.manual_seed((self.config.seed << 32) ^ turn ^ (self.world.rank << RANK_SEED))
        method = self.method
        seen = see(batch, self.config, self.epoch, self.course, method)
        loss = method.loss(seen)
        figures = figures_of(loss)
        if not math.isfinite(figures["loss"]):
            raise faults.no_number(method, seen.views, batch.row, self.step)
        self.last = self._mean(figures, index % self.config.accumulate)
        self.seen += len(batch.bag)
        return loss.total

    def _mean(self, figures: dict[str, float], turn: int) -> dict[str, float]:
        """Return the mean over the batches of this optimiser step so far."""
        if turn == 0:
            return figures
        return {k: self.last[k] + (v - self.last[k]) / (turn + 1) for k, v in figures.items()}

    def configure_optimizers(self) -> dict[str, Any]:
        batch = self.config.batch * self.config.accumulate
        optimizer = optim.build(self.config.optim, self.method, batch)
        line = optim.schedule(optimizer, self.course.total_steps, self.config.optim.warmup)
        if self.state.optimizer is not None and self.state.schedule is not None:
            optimizer.load_state_dict(self.state.optimizer)
            line.load_state_dict(self.state.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": line, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        optim.check_gradients(self.method, f"Step {self.step}")
        self.rate = optimizer.param_groups[0]["lr"]


def figures_of(loss: Loss) -> dict[str, float]:
    """Return the loss, its parts and its value at collapse as numbers; one wait for the device."""
    named = {"loss": loss.total, **loss.parts}
    if loss.collapsed is not None:
        named["collapsed"] = loss.collapsed
    values = torch.stack([v.detach().float().reshape(()) for v in named.values()]).tolist()
    return dict(zip(named, values, strict=True))


class _Keeper(Callback):
    """After every step: log, show, look for collapse; at epoch ends: measure; save in time."""

    def __init__(self, setting: Setting, asked: Asked, state: checkpoints.State) -> None:
        super().__init__()
        self.setting, self.asked, self.state = setting, asked, state
        self.folder = setting.run.path / "checkpoints"
        self.clock, self.images, self.waited = time.monotonic(), 0, 0.0
        self.saved = self.begun = time.monotonic()
        self.well = False

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        # Lightning has just put its own handlers first, which talk to the other processes at once.
        self.asked.listen()
        self.well = module.config.watch.every == 0
        if told(self.setting.world, self.setting.observer.fresh and module.step == 0):
            self._measure(module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        world, config = self.setting.world, module.config
        self.images += batch.row.numel() * world.size
        if (batch_idx + 1) % config.accumulate:
            return
        step, total = module.step, module.course.total_steps
        module.method.after_step(min(1.0, step / total))
        figures = {k: v for k, v in module.last.items() if k != "collapsed"}
        self._end_if(self.setting.observer.step(step, module.last))
        if self.setting.progress is not None:
            self.setting.progress(step, total, self._shown(module, figures))
        if step % config.log_every == 0 or step == total:
            self._log(module, step, figures)
        done = module.first_batch + batch_idx + 1
        if done < len(module.now.limits) - 1 and step < total:
            number = self._asked(module)
            overdue = time.monotonic() - self.saved > 60 * config.save_minutes
            if number or anyone(world, int(overdue), module.device):
                place = self._save(trainer, module, module.epoch, done)
                if number:
                    raise leave(number, step, place)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        world, total = self.setting.world, module.course.total_steps
        planned = _planned(module.now, world, module.first_batch)
        if module.seen != planned and module.step < total:
            words = f"Epoch {module.epoch} ended after {module.seen} of {planned} samples."
            raise MedsslError(words, "E-SHORT-EPOCH")
        every = module.config.watch.every
        measured = every > 0 and ((module.epoch + 1) % every == 0 or module.step >= total)
        if measured:
            self._measure(module)
        number = self._asked(module)
        if number or measured or (module.epoch + 1) % module.config.save_every == 0:
            place = self._save(trainer, module, module.epoch + 1, 0)
            if number and module.step < total:
                raise leave(number, module.step, place)

    def _asked(self, module: Any) -> int:
        return anyone(self.setting.world, self.asked.signal, module.device)

    def _measure(self, module: Any) -> None:
        """Measure in the first process while the others wait; all stop if the first says so."""
        world, observer = self.setting.world, self.setting.observer
        verdict = None
        if world.first:
            verdict = observer.measure(module.method.encoder, module.step, module.epoch)
        self._end_if(told(world, verdict))
        self.well = observer.streak == 0
        self.clock, self.images, self.waited = time.monotonic(), 0, module.waited

    def _end_if(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            raise faults.collapsed(verdict.words, self.folder, self.state.healthy)

    def _log(self, module: Any, step: int, figures: dict[str, float]) -> None:
        spent = max(1e-9, time.monotonic() - self.clock)
        line = {"step": step, "epoch": module.epoch, **figures}
        line["lr"] = module.rate
        line["pair_share"] = pair_share(module.now)
        line["images_per_s"] = round(self.images / spent, 1)
        line["wait"] = round(self._wait(module) / spent, 4)
        if self.setting.world.first:
            self.setting.observer.write(line)
        self.clock, self.images, self.waited = time.monotonic(), 0, module.waited

    def _wait(self, module: Any) -> float:
        return float(module.waited - self.waited)

    def _shown(self, module: Any, figures: dict[str, float]) -> dict[str, float]:
        spent = max(1e-9, time.monotonic() - self.clock)
        more = {"epoch": module.epoch, "images_per_s": self.images / spent}
        return {**figures, **more, "wait": self._wait(module) / spent, "memory": memory_used()}

    def _save(self, trainer: pl.Trainer, module: Any, epoch: int, batch: int) -> str:
        """Save in the first process; every process waits for it. Return the file's name.

        A checkpoint counts as healthy where the last measurement and every step since were well.
        """
        world, name = self.setting.world, checkpoints.name_of(module.step)
        streak = self.setting.observer.streak
        healthy = name if self.well and streak == 0 else self.state.healthy
        self.well = module.config.watch.every == 0
        self.state = replace(
            self.state, step=module.step, epoch=epoch, batch=batch, streak=streak, healthy=healthy
        )
        if world.first:
            state = replace(
                self.state,
                seconds=self.state.seconds + time.monotonic() - self.begun,
                optimizer=trainer.optimizers[0].state_dict(),
                schedule=trainer.lr_scheduler_configs[0].scheduler.state_dict(),
            )
            checkpoints.save(self.folder, module.method, state)
        together(world)
        self.saved = time.monotonic()
        return name


def _planned(plan: Plan, world: World, start: int) -> int:
    places = [plan.batch(k, world.rank, world.size) for k in range(start, len(plan.limits) - 1)]
    return sum(p.stop - p.start for p in places)


def memory_used() -> float:
    """Return the bytes in use: the GPU's peak where there is one, else this process's."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    return float(psutil.Process().memory_info().rss)


@dataclass(frozen=True)
class Done:
    """How a training ended: the last loss and its parts, and its seconds without those between stops."""

    figures: dict[str, float]
    seconds: float


def fit(method: Method, config: PretrainConfig, course: Course, setting: Setting) -> Done:
    """Train a method to the end of its course, from its last checkpoint if there is one.

    Raises:
        NumericalStopError: a loss or a gradient that is not finite, before the update; a collapse.
        StoppedError: a signal asked to stop; the state is saved.
        RefusedError: every checkpoint is damaged.
        MedsslError: out of memory, or another process of the job is gone.
    """
    begun = time.monotonic()
    world, folder = setting.world, setting.run.path / "checkpoints"
    start = told(world, checkpoints.last_good(folder, setting.note) if world.first else None)
    setting.observer.remember(method.encoder)
    state = checkpoints.restore(start, method) if start is not None else checkpoints.State()
    if world.first:
        folder.mkdir(exist_ok=True)
        checkpoints.sweep(folder)
        checkpoints.check_room(folder, method)
    setting.observer.resume(state.step, state.streak)
    module = _Module(method, config, course, world, state)
    asked = Asked()
    with _quiet(), faults.told_plainly(module, config, world), listening(asked):
        # Chunks may differ in number between processes, and a norm that waits would wait for ever.
        if world.size > 1 and torch.cuda.is_available() and config.chunk is None:
            for encoder in method.encoders():
                synchronise(encoder)
        if config.compile:
            method.encoder.net.compile()
        _run(_trainer(config, course, world, state.step, _Keeper(setting, asked, state)), module)
    figures = {k: v for k, v in module.last.items() if k != "collapsed"}
    return Done(figures, state.seconds + time.monotonic() - begun)


def _trainer(
    config: PretrainConfig, course: Course, world: World, done: int, keeper: _Keeper
) -> pl.Trainer:
    precision: Any = {"32": "32-true", "bf16": "bf16-mixed"}[config.precision]
    gpu = torch.cuda.is_available()
    wide: dict[str, Any] = {}
    if world.size > 1:
        wide = {
            "strategy": DDPStrategy(gradient_as_bucket_view=True),
            "plugins": [environment()],
        }
    return pl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=world.local,
        num_nodes=world.nodes,
        max_steps=course.total_steps - done,
        max_epochs=-1,
        precision=precision,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.optim.clip_norm,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[keeper],
        **wide,
    )


def _run(trainer: pl.Trainer, module: _Module) -> None:
    try:
        trainer.fit(module)
    except SystemExit as error:
        # Lightning turns an interruption into exit(1); the command line tells which it was.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence Lightning's banners; what matters is told by the house."""
    import logging

    loggers = [logging.getLogger(n) for n in ("pytorch_lightning", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", module="lightning_fabric")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
