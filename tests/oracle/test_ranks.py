"""Two processes are one: the gathered loss and its gradient, against one process."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_ranks

from medssl.methods import METHODS


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(two_ranks.__file__)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *words, str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_gradient_is_that_of_the_global_batch(pair, name, chunk):
    method = two_ranks.make(name, None)
    loss = method.loss(*two_ranks.batch(method))
    loss.total.backward()
    wanted = two_ranks.result(method, loss)
    for rank in (0, 1):
        got = torch.load(pair / f"{name}-{chunk}-{rank}.pt", weights_only=True)
        assert float(got["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-6)
        assert float(got["z_std"]) == pytest.approx(float(wanted["z_std"]), rel=1e-5)
        for key, value in wanted["gradient"].items():
            torch.testing.assert_close(got["gradient"][key], value, rtol=1e-4, atol=1e-7, msg=key)
        for key, value in wanted["buffers"].items():  # the head's batch norm sees the whole batch
            torch.testing.assert_close(got["buffers"][key], value, rtol=1e-5, atol=1e-7, msg=key)
