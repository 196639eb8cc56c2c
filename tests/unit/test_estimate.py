"""The estimate before a run: memory and time by hand, the largest batch by brute force."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SIZE

from medssl.config import Duration, EncoderConfig, MICLeConfig, OptimConfig, PretrainConfig
from medssl.methods import build_method
from medssl.methods.base import Seen
from medssl.models.encoder import build
from medssl.train import estimate as room
from medssl.train.estimate import MIB, Cost, Footprint, Line, ResidentMeter, estimate

RNG = np.random.default_rng(0)
FIXED, EACH, FREE = 300 * MIB, 5 * MIB, 900 * MIB


def settings(**changes):
    given = {
        "method": MICLeConfig(name="micle", hidden=32, out=16),
        "encoder": EncoderConfig(name="resnet10t"),
        "duration": Duration(epochs=1),
        "batch": 64,
    }
    return PretrainConfig(**given | changes)


def made():
    config = settings()
    return build_method(config.method, build(config.encoder, SIZE, whole=False, seed=0), 0)


@pytest.fixture(scope="module")
def method():
    return made()


def maker(n):
    key = torch.zeros(n, 2, dtype=torch.int32)
    return Seen(torch.randn(n, 2, 1, SIZE, SIZE), torch.arange(n), key)


class Machine:
    """A pretended device and step: memory and seconds follow a rule, nothing is computed."""

    def __init__(self, chunk=None, free=FREE):
        self.now, self.chunk, self.free, self.taken = FIXED, chunk, free, []

    def maker(self, n):
        views = torch.empty(n, 2, 1, SIZE, SIZE, device="meta")
        return Seen(views, torch.empty(n, device="meta"), torch.empty(n, 2, device="meta"))

    def step(self, seen):
        n = len(seen.bag)
        self.taken.append(n)
        active = n if self.chunk is None else min(n, self.chunk // 2)
        each_view = seen.views[0, 0].nbytes
        self.now = FIXED + EACH * active + 2 * each_view * (n - active) + 17 * (2 * n) ** 2

    def available(self):
        return self.free

    def peak(self, work):
        self.now = FIXED
        work()
        return int(self.now)


def run(machine, config, **more):
    said = estimate(
        config, more.pop("method"), machine.maker, steps=1000, step=machine.step, meter=machine, **more
    )  # fmt: skip
    return said, int(said["largest_batch"].split()[0])


def brute(machine, most):
    limit = FIXED + room.MARGIN * machine.free
    best = 0
    for n in range(1, most + 1):
        machine.step(machine.maker(n))
        best = n if machine.now <= limit else best
    return best


@pytest.mark.parametrize("chunk", [None, 64])
@pytest.mark.parametrize("world", [1, 2])
def test_the_largest_batch_is_that_of_a_search_one_by_one(method, chunk, world):
    machine = Machine(chunk)
    said, largest = run(machine, settings(chunk=chunk), method=method, world=world, most=20_000)
    assert max(machine.taken) <= 64 // world, "a batch beyond the settings was tried on a CPU"
    if world == 1:
        true = brute(machine, 20_000)
        assert 0.92 * true <= largest <= 1.01 * true
    else:
        assert largest <= 2 * brute(machine, 10_000)
    assert said["memory_suffices"] == "yes"
    assert largest > (64 if chunk is None else 1000)


def test_a_batch_that_does_not_fit_is_said_and_never_taken(method):
    machine = Machine(free=100 * MIB)
    said, largest = run(machine, settings(batch=512), method=method)
    assert largest == pytest.approx(17, abs=1)
    assert said["memory_suffices"].startswith("no")
    assert said["step_time"].startswith("foreseen")
    assert max(machine.taken) < 64


def test_accumulated_batches_take_as_much_longer(method):
    class Slow(Machine):
        def step(self, seen):
            super().step(seen)
            room.time.sleep(0.02)

    one, three = (run(Slow(), settings(batch=8, accumulate=n), method=method)[0] for n in (1, 3))
    assert three["seconds_per_step"] == pytest.approx(3 * one["seconds_per_step"], rel=0.5)
    assert three["seconds_per_step"] >= 0.06
    assert three["images_per_s"] <= 16 / 0.02


def test_no_batch_beyond_an_epoch(method):
    assert run(Machine(free=10**15), settings(), method=method, most=70)[1] == 70


def test_trials_against_every_threshold():
    for limit in [0, 1, 2, 3, *RNG.integers(1, 5000, 40).tolist()]:
        for start in (1, 2, 7, 64):
            tried = []

            def fits(n, tried=tried, limit=limit):
                tried.append(n)
                return n <= limit

            found = room.largest_by_trial(fits, start, 4096)
            assert found <= min(limit, 4096)
            assert found >= min(limit, 4096) - max(1, found // 16)
            assert len(tried) == len(set(tried)) <= 26
            assert max(tried) <= 4096


def test_out_of_memory_is_an_answer_and_other_errors_are_not():
    def fail(error):
        raise error

    assert room.survives(lambda: None)
    assert not room.survives(lambda: fail(torch.OutOfMemoryError("CUDA out of memory")))
    assert not room.survives(lambda: fail(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling")))
    with pytest.raises(RuntimeError, match="shape"):
        room.survives(lambda: fail(RuntimeError("shape mismatch")))


def test_lines_by_hand():
    assert room.line(Cost(2, 1.0, 100), Cost(6, 3.0, 140), "seconds") == Line(0.0, 0.5)
    assert room.line(Cost(2, 1.0, 100), Cost(6, 3.0, 140), "peak") == Line(80.0, 10.0)
    assert room.line(Cost(2, 1.0, 100), Cost(6, 0.5, 90), "peak").each == 0
    footprint = Footprint(Line(80.0, 10.0), views=2, sample=3, chunk=8, world=2)
    assert footprint.at(4) == 80 + 40 + 17 * 16**2
    assert footprint.at(10) == 80 + 40 + 3 * 6 + 17 * 40**2


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_states_are_as_large_as_real_ones(name):
    config = settings(optim=OptimConfig(name=name))
    method = build_method(config.method, build(config.encoder, SIZE, whole=False, seed=0), 0)
    optimizer = room.optim.build(config.optim, method, 8)
    method.loss(maker(4)).total.backward()
    optimizer.step()
    held = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    state = sum(v.nbytes for v in held if v.ndim)
    assert room.optimizer_bytes(config, method) == state
    grads = sum(p.grad.nbytes for p in method.parameters())
    assert room.learnt_bytes(method) == grads
    out = io.BytesIO()
    torch.save({"method": method.state_dict(), "optimizer": optimizer.state_dict()}, out)
    foreseen = room.parameter_bytes(method) + room.optimizer_bytes(config, method)
    assert foreseen == pytest.approx(out.getbuffer().nbytes, rel=0.02)


def test_resident_memory_is_seen_while_it_is_held():
    meter, size = ResidentMeter(), 128 * MIB
    before = meter.peak(lambda: None)
    seen = meter.peak(lambda: np.ones(size // 8).sum())
    assert seen - before == pytest.approx(size, rel=0.15)
    assert 0 < meter.available() <= room.psutil.virtual_memory().total


def test_a_control_group_limits_what_is_free(tmp_path):
    assert room._group_free(tmp_path) == []
    (tmp_path / "memory.max").write_text("max\n")
    assert room._group_free(tmp_path) == []
    (tmp_path / "memory.max").write_text(f"{700 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{300 * MIB}\n")
    assert room._group_free(tmp_path) == [400 * MIB]


def real_steps(folder):
    """Print, as JSON, what autograd saves per view and what the estimate says."""
    method, saved = made(), {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    seen = maker(8)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = method.loss(seen).total
    per_view = sum(saved.values()) - sum(p.nbytes for p in method.parameters())
    del loss
    said = estimate(settings(batch=32), method, maker, steps=10, most=512, folder=Path(folder))
    sys.stdout.write(json.dumps([per_view / 16 / MIB, said]))


def test_real_steps_hold_what_autograd_saves(tmp_path):
    """The oracle is not the process: bytes that the graph saves for the backward pass.

    In a process of its own, as a dry run is: memory that other tests gave back would hide the growth.
    """
    folder = Path(__file__).parent
    code = (
        f"import sys; sys.path[:0] = [{str(folder)!r}, {str(folder.parent)!r}]; "
        f"import test_estimate; test_estimate.real_steps({str(tmp_path / 'not' / 'yet')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    per_view, said = json.loads(done.stdout)
    assert per_view * 0.7 < said["memory_per_active_view_mib"] < per_view * 3
    assert said["hours"] == pytest.approx(10 * said["seconds_per_step"] / 3600, abs=0.006)
    assert said["images_per_s"] == pytest.approx(64 / said["seconds_per_step"], rel=0.1)
    free = shutil.disk_usage(tmp_path).free / MIB
    assert said["disk_free_mib"] == pytest.approx(free, rel=0.05)
    assert said["disk_suffices"] == "yes"
