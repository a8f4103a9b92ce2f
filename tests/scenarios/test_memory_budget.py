"""Many more models than memory allows are served by one data plane: every answer is right, and the budget is kept."""

from __future__ import annotations

import os
import random
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import native_bundles
from modelyard.bundle import ready_golden
from modelyard.domain.desired import Deployment, DesiredState
from modelyard.home import Home
from serving_process import ControlPlane, ServingProcess, serving, until
from small_bundles import write_line

MODELS = int(os.environ.get("MODELYARD_MODELS", "60"))
CALLERS, KINDS = 2, 12
"""How many call, and how many different bundles there are: each deployment loads its own all the same."""

BALLAST = 2_000_000
OWN_MB, EACH_MB = 44, 2.2
"""What a worker takes without any model, and with each more: about."""

pytestmark = pytest.mark.timeout(600)


def metric(server: ServingProcess, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", server.get("/metrics").body.decode(), re.MULTILINE)
    assert found, name
    return float(found[1])


def write_models(folder: Path) -> tuple[Deployment, ...]:
    home = Home(folder / "home").create()
    bundles = [write_line(folder / str(kind), slope=float(kind), ballast=BALLAST) for kind in range(KINDS)]
    for bundle in bundles:
        ready_golden.keep(bundle, home)
    chosen = [(at, bundles[at % KINDS]) for at in range(MODELS)]
    return tuple(Deployment(f"line-{at}", "line", at, one.digest, str(one.path)) for at, one in chosen)


class Caller(threading.Thread):
    """Asks now this model, now that one, some of them more often, and keeps what is not right."""

    def __init__(self, server: ServingProcess, seed: int) -> None:
        super().__init__(daemon=True)
        self.server, self.draw = server, random.Random(seed)
        self.wrong: list[Any] = []
        self.seconds: list[float] = []

    def run(self) -> None:
        every = list(range(MODELS))
        self.draw.shuffle(every)
        for at in [*every, *(self.draw.randrange(MODELS // 4) for _ in range(MODELS))]:
            x, begun = self.draw.random(), time.perf_counter()
            reply = self.server.post(f"/predict/line-{at}", {"rows": [{"x": x}]})
            self.seconds.append(time.perf_counter() - begun)
            if reply.status != 200 or reply.json["rows"][0]["predict"] != at % KINDS * x or reply.json["version"] != at:
                self.wrong.append((at, reply.status, reply.body))


def _tell(server: ServingProcess, callers: list[Caller], seconds: float, loads: float) -> None:
    """What `make models` shows."""
    each = sorted(second for caller in callers for second in caller.seconds)
    at = [each[int(len(each) * share)] * 1e3 for share in (0.1, 0.5, 0.9, 0.99)]
    held, budget = (metric(server, f"modelyard_memory_{what}_bytes") / 1e6 for what in ("budgeted", "budget"))
    loaded = metric(server, "modelyard_version_loads_total") - loads
    took = ", ".join(f"p{share} {one:.1f} ms" for share, one in zip((10, 50, 90, 99), at, strict=True))
    sys.stdout.write(
        f"{MODELS} models, {len(each)} calls in {seconds:.1f} s, {loaded:.0f} of which loaded a version first\n"
        f"a call took {took}\n"
        f"{held:.0f} MB held of {budget:.0f}; {server.get('/v2/health/ready').json['reason']}\n"
    )


def test_a_budget_for_a_third_of_the_models_serves_them_all(tmp_path: Path) -> None:
    control = ControlPlane(DesiredState(1, write_models(tmp_path)))
    control.start()
    workers = 2
    budget = round(workers * (OWN_MB + EACH_MB * MODELS / 3))
    options = ("--desired", control.url, "--workers", workers, "--memory-budget-mb", budget)
    with serving(tmp_path, *options) as server:
        server.wait_ready()
        until(lambda: "when they are asked for" in server.get("/v2/health/ready").json.get("reason", ""), "some wait")
        callers = [Caller(server, seed) for seed in range(CALLERS)]
        loads, begun = metric(server, "modelyard_version_loads_total"), time.perf_counter()
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        _tell(server, callers, time.perf_counter() - begun, loads)
        assert [wrong for caller in callers for wrong in caller.wrong] == []
        until(lambda: metric(server, "modelyard_memory_budgeted_bytes") <= budget * 1e6, "the budget is kept")
        assert metric(server, "modelyard_version_evictions_total") > MODELS / 4
        assert metric(server, "modelyard_version_loads_total") > MODELS / 2
        index = server.post("/v2/repository/index", {"ready": True}).json
        assert len(index) == MODELS, "all are ready, some on request"
    control.stop()


def test_the_process_of_a_native_version_ends_when_it_is_unloaded_for_memory(tmp_path: Path) -> None:
    from modelyard.bundle.pack import build_bundle

    model, table = native_bundles.of_main(_lengths), native_bundles.table(40)
    bundle = build_bundle(model, sample=table, name="lengths", into=tmp_path / "bundle", runtime="python")
    made = [Deployment(f"native-{at}", "lengths", at, bundle.digest, str(bundle.path)) for at in range(3)]
    control = ControlPlane(DesiredState(1, tuple(made)))
    control.start()
    options = ("--desired", control.url, "--workers", 1, "--python", native_bundles.PYTHON)
    with serving(tmp_path, *options, "--memory-budget-mb", 60) as server:
        server.wait_ready()

        def ask(at: int) -> None:
            reply = server.post(f"/predict/native-{at}", {"rows": [{"amount": 1.5, "city": "Bern"}]})
            assert (reply.status, reply.json["version"]) == (200, at), reply.body

        def only_the_first() -> bool:
            ask(0)  # so that it is the one asked for last, whatever was loaded meanwhile
            deployments = server.get("/status").json["deployments"]
            return [one["name"] for one in deployments if not one["unloaded"]] == ["native-0"]

        for at in (0, 1, 2):
            ask(at)
        try:
            until(only_the_first, "one is left")
        except AssertionError as error:
            status, log = server.get("/status").body.decode(), server.log.read_text()
            raise AssertionError(f"{error}\n{status}\n{log}") from error
        threads = Path(f"/proc/{server.get('/status').json['pid']}/task")

        def processes() -> list[str]:
            return [pid for thread in threads.iterdir() for pid in (thread / "children").read_text().split()]

        until(lambda: len(processes()) == 1, "and its process")
    control.stop()


def _lengths(table: Any) -> Any:
    return table["city"].str.len().to_numpy(dtype=float)
