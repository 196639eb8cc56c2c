"""Installed without the clone, the app still finds its pages and its scripts."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from medssl import serve


def test_the_wheel_carries_the_app(tmp_path):
    build = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    where = "from medssl import serve; print(serve.page())"
    got = subprocess.run(
        [sys.executable, "-c", where],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    page = Path(got.stdout.strip())
    assert page.is_relative_to(tmp_path / "site")
    kinds = {".py", ".js", ".css"}
    ours = {
        p.relative_to(serve.page().parent)
        for p in serve.page().parent.rglob("*")
        if p.suffix in kinds
    }
    theirs = {p.relative_to(page.parent) for p in page.parent.rglob("*") if p.suffix in kinds}
    assert ours == theirs
