"""Two models whose dependencies clash are served by one server, each with its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from handmade_wheels import write_wheel
from modelyard.bundle import uv

PACKAGE = "handmadescale"

TRAIN = f"""
import sys
import pandas as pd
import modelyard as my
import {PACKAGE}

def scaled(table):
    return {PACKAGE}.scale(table["x"])

sample = pd.DataFrame({{"x": [float(n) for n in range(40)]}})
print(my.pack(scaled, sample=sample, name=sys.argv[1], golden_rows=8).runtime)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with ``old`` and ``new``, packed with version 1.0 and 2.0 of the same package."""
    root = tmp_path_factory.mktemp("clash")
    settings = {
        **os.environ,
        "UV_FIND_LINKS": str(root / "wheels"),
        "MODELYARD_HOME": str(root / "home"),
        "XDG_CACHE_HOME": str(root / "cache"),
        "UV_CACHE_DIR": uv.run(["cache", "dir"]).strip(),
    }
    (root / "train.py").write_text(TRAIN)
    for name, version, factor in (("old", "1.0", 10), ("new", "2.0", 1000)):
        wheel = write_wheel(
            root / "wheels", PACKAGE, version, {f"{PACKAGE}.py": f"def scale(x):\n    return x * {factor}\n"}
        )
        site = root / f"site-{name}"
        uv.run(["pip", "install", "--quiet", "--no-deps", "--offline", "--target", str(site), str(wheel)])
        # What a folder was installed from must not tell: a wheel from an index leaves no such file.
        for origin in site.glob("*.dist-info/direct_url.json"):
            origin.unlink()
        trained = run([sys.executable, str(root / "train.py"), name], {**settings, "PYTHONPATH": str(site)})
        assert trained.strip() == "python"
    with_planes = subprocess.Popen(
        [sys.executable, "-m", "modelyard.cli.app", "up", "--port", "0"], env=settings, stdout=subprocess.DEVNULL
    )
    try:
        for name in ("old", "new"):
            run([sys.executable, "-m", "modelyard.cli.app", "verify", f"{name}@1"], settings)
            run([sys.executable, "-m", "modelyard.cli.app", "deploy", f"{name}@1", "--to", name], settings)
        yield json.loads((root / "home" / "run" / "up.json").read_text())["data"]["url"]
    finally:
        with_planes.send_signal(signal.SIGTERM)
        with_planes.wait(timeout=30)


def run(command: list[str], settings: dict[str, str]) -> str:
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(url: str, name: str, x: float) -> float:
    reply = httpx.post(f"{url}/predict/{name}", json={"rows": [{"x": x}]})
    assert reply.status_code == 200, reply.text
    return float(reply.json()["rows"][0]["output"])


def test_each_model_computes_with_its_own_release(served: str) -> None:
    assert (ask(served, "old", 2.0), ask(served, "new", 2.0)) == (20.0, 2000.0)


def test_one_models_process_can_die_without_the_other(served: str) -> None:
    states = {one["name"]: one for one in httpx.get(f"{served}/status").json()["deployments"]}
    assert states["old"]["pid"] != states["new"]["pid"]
    os.kill(states["old"]["pid"], signal.SIGKILL)
    assert ask(served, "new", 3.0) == 3000.0
    assert ask(served, "old", 3.0) == 30.0
    until = time.monotonic() + 10
    while httpx.get(f"{served}/status/old").json()["deployments"][0]["pid"] in (None, states["old"]["pid"]):
        assert time.monotonic() < until, "the process of 'old' did not come back"
        time.sleep(0.05)
