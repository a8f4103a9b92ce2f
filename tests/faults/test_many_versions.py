"""Two models of two scikit-learn releases and ten compiled ones on one server: none starves another.

In the long form only, as environments are built; `test_side_by_side.py` has clashing packages in the short one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import pytest

import compiled_bundles
from faults.promises import LONG, check, model_processes, say, size, workers
from load import REFUSED, RIGHT, SECOND, Call, Load, Target, load, quantile
from modelyard.bundle import uv
from modelyard.domain.desired import Deployment, DesiredState
from serving_process import ControlPlane, ServingProcess, start, until

OLD = "1.7.2"
NEW = metadata.version("scikit-learn")
COMPILED = 10
ROUNDS, ROUND_SECONDS = size(6, 10), 1.5
TIMES = 2.0
"""How many times its quiet value the p99 of the others may reach while one is flooded."""

TRAIN = """
import sys
import pandas as pd
import sklearn
import modelyard as my
from sklearn.linear_model import LinearRegression

assert sklearn.__version__ == sys.argv[2], sklearn.__version__
X = pd.DataFrame({"x": [float(number) for number in range(40)]})
model = LinearRegression().fit(X, 2 * X["x"])
version = my.pack(model, sample=X, name=sys.argv[1], runtime="python", golden_rows=8)
print(version.digest, version.path)
"""

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not LONG, reason="in the long form: environments are built, from where uv gets its wheels"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("many")


@pytest.fixture(scope="module")
def settings(root: Path) -> dict[str, str]:
    """Homes and caches of its own; wheels come from where uv gets them, as for any user."""
    own = {"MODELYARD_HOME": str(root / "home"), "XDG_CACHE_HOME": str(root / "cache")}
    return own | {"UV_CACHE_DIR": uv.run(["cache", "dir"]).strip()}


@pytest.fixture(scope="module")
def native(root: Path, settings: dict[str, str]) -> tuple[Deployment, ...]:
    """``old`` and ``new``, each packed with its own release."""
    site = root / "site"
    uv.run(["pip", "install", "--quiet", "--no-deps", "--target", str(site), f"scikit-learn=={OLD}"])
    (root / "train.py").write_text(TRAIN)
    made = []
    for name, release, path in (("old", OLD, str(site)), ("new", NEW, "")):
        command = [sys.executable, str(root / "train.py"), name, release]
        environment = os.environ | settings | {"PYTHONPATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        digest, folder = done.stdout.split()
        made.append(Deployment(name, name, 1, digest, folder))
    return tuple(made)


@pytest.fixture(scope="module")
def server(root: Path, settings: dict[str, str], native: tuple[Deployment, ...]) -> Iterator[ServingProcess]:
    compiled = []
    for number in range(COMPILED):
        bundle = compiled_bundles.write_compiled(root / f"toy{number}", bias=float(number))
        compiled.append(Deployment(f"toy{number}", "toy", 1, bundle.digest, str(bundle.path)))
    control = ControlPlane(DesiredState(1, (*native, *compiled)))
    control.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        made = start(root / "server", "--desired", control.url, "--workers", "2")
    try:
        until(lambda: made.get("/v2/health/ready").status == 200, "ready", 240)
        until(lambda: len(workers(made)) == 2, "two workers")
        yield made
    finally:
        made.stop(signal.SIGKILL)
        control.stop()


def test_each_computes_with_its_own_release(server: ServingProcess) -> None:
    for name in ("old", "new"):
        reply = server.post(f"/predict/{name}", {"rows": [{"x": 21.0}]})
        assert reply.json["rows"][0]["predict"] == pytest.approx(42.0)
    releases = sorted(_release(pid) for worker in workers(server) for pid in model_processes(worker))
    assert releases == sorted([OLD, NEW] * 2)


def _release(pid: int) -> str:
    """The scikit-learn that a process has loaded."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        before, found, _ = line.partition("/sklearn/")
        if found:
            [release] = Path(before[before.index("/") :]).glob("scikit_learn-*.dist-info")
            return release.name.removeprefix("scikit_learn-").removesuffix(".dist-info")
    raise AssertionError(f"process {pid} has no scikit-learn")


def test_flooding_one_leaves_the_others_what_they_had(server: ServingProcess, root: Path) -> None:
    others = [
        Target("/predict/new", "twice", callers=1, pause=0.02, output="predict"),
        *(
            Target(f"/predict/toy{number}", callers=1, pause=0.02, biases={"1": float(number)})
            for number in range(COMPILED)
        ),
    ]
    flood = Target("/predict/old", "twice", callers=48, pause=0.0, output="predict")
    rounds = list[tuple[tuple[int, int], tuple[int, int]]]()
    flooding = list[Call]()
    with load(root, server.address, *others) as running:
        for number in range(ROUNDS):
            quiet = _span(running)
            with load(root, server.address, flood, label=f"flood-{number}", nice=10) as flooded:
                busy = _span(running)
                flooding += flooded.end()
            rounds.append((quiet, busy))
        calls = running.end()
    records = root / "server" / "home" / "records"
    check(calls, [], records)
    check(flooding, [], records, may_refuse=lambda call: call.status == 429)
    assert any(call.outcome == RIGHT for call in flooding)
    ratios = [_p99(calls, busy) / _p99(calls, quiet) for quiet, busy in rounds]
    for (quiet, busy), ratio in zip(rounds, ratios, strict=True):
        figures = f"{_p99(calls, busy):.1f} ms flooded, {_p99(calls, quiet):.1f} ms quiet: {ratio:.2f} times"
        say(f"p99 of the others {figures}")
    say(f"flood: {len(flooding)} calls, {sum(call.outcome == REFUSED for call in flooding)} refused")
    assert min(ratios) <= TIMES


def _span(running: Load) -> tuple[int, int]:
    begun = time.monotonic_ns()
    until(lambda: time.monotonic_ns() - begun > ROUND_SECONDS * SECOND, "the end of the round")
    running.wait_for_more(1)
    return begun, time.monotonic_ns()


def _p99(calls: Sequence[Call], span: tuple[int, int]) -> float:
    return 1e3 * quantile((call.seconds for call in calls if span[0] <= call.begun and call.ended <= span[1]), 0.99)
