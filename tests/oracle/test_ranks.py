"""Two processes are one: the gathered loss and its gradient, against one process."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_ranks


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


@pytest.mark.parametrize(
    ("name", "dims", "chunk"), two_ranks.CASES, ids=["-".join(map(str, c)) for c in two_ranks.CASES]
)
def test_the_gradient_is_that_of_the_global_batch(pair, name, dims, chunk):
    """And so are the figures of the log, and queues, centres and norms after the step."""
    method = two_ranks.make(name, dims, None)
    loss = method.loss(two_ranks.batch(method))
    loss.total.backward()
    wanted = two_ranks.result(method, loss)
    for rank in (0, 1):
        got = torch.load(pair / f"{name}-{dims}-{chunk}-{rank}.pt", weights_only=True)
        assert float(got["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-6)
        for part, value in wanted["parts"].items():
            assert float(got["parts"][part]) == pytest.approx(float(value), rel=1e-5, abs=1e-7)
        assert set(got["gradient"]) == set(wanted["gradient"])
        for kind in ("gradient", "state"):  # a head's batch norm sees the whole batch
            for key, value in wanted[kind].items():
                torch.testing.assert_close(got[kind][key], value, rtol=1e-4, atol=1e-6, msg=key)
