"""A model that hangs, exits, sends half an answer or garbage, or leaks, in a data plane that is asked all along.

In the short form there is half an answer only; `test_runtime_faults.py` has the others without a server.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import compiled_bundles
import user_models
from faults.promises import BACK_SECONDS, LONG, Fault, check, model_processes, now, size, workers
from load import Target, load
from modelyard.bundle.pack import build_bundle
from modelyard.domain.desired import Deployment, DesiredState
from modelyard.serving.opening import MEMORY_SETTING
from serving_process import ControlPlane, ServingProcess, start, until

TIMES = size(1, 20)
MEMORY_MB = 450
NOTICED_SECONDS = 1.0
"""How soon a process that hangs is noticed, by the promise; at most it is twice, as a call is tried again once."""

pytestmark = pytest.mark.timeout(180 + 30 * TIMES)

# So many that both workers have some: one that has none in between is rightly held to keep crashing, and isolated.
ASKED = (Target("/predict/unruly", "twice", callers=8, pause=0.02), Target("/predict/toy", callers=2, pause=0.01))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServingProcess]:
    sample = pd.DataFrame({"x": [1.0, -2.0, 3.0]})
    unruly = build_bundle(user_models.unruly, sample=sample, name="unruly", into=folder / "unruly", golden_rows=3)
    toy = compiled_bundles.write_compiled(folder / "toy")
    control = ControlPlane(
        DesiredState(
            1,
            (
                Deployment("unruly", "unruly", 1, unruly.digest, str(unruly.path)),
                Deployment("toy", "toy", 1, toy.digest, str(toy.path)),
            ),
        )
    )
    control.start()
    arguments = ["--desired", control.url, "--python", sys.executable, "--workers", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MEMORY_SETTING, str(MEMORY_MB))
        made = start(folder / "server", *arguments)
    try:
        made.wait_ready()
        until(lambda: len(workers(made)) == 2, "two workers")
        yield made
    finally:
        made.stop(signal.SIGKILL)
        control.stop()


@pytest.mark.parametrize("what", ["HANGS", "EXITS", "HALF", "GARBAGE"] if LONG else ["HALF"])
def test_a_call_that_ruins_its_process_is_told_so_and_no_other_is_harmed(
    server: ServingProcess, folder: Path, what: str
) -> None:
    faults, alive = list[Fault](), workers(server)
    with load(folder, server.address, *ASKED) as running:
        for _ in range(TIMES):
            faults.append(now())
            reply = server.post("/predict/unruly", {"rows": [{"x": getattr(user_models, what)}]})
            assert (reply.status, reply.json["code"]) == (503, "RuntimeLost")
            running.wait_for_more(3)
        calls = running.end()
    # The call is tried again, so that its process is lost twice.
    within = 2 * (BACK_SECONDS + (NOTICED_SECONDS if what == "HANGS" else 0.0))
    check(calls, faults, folder / "server" / "home" / "records", within=within)
    assert workers(server) == alive


@pytest.mark.skipif(not LONG, reason="in the long form; test_memory_limit.py has the same without a server")
def test_a_model_that_leaks_is_started_again_before_it_takes_the_machine_and_no_call_fails(
    server: ServingProcess, folder: Path
) -> None:
    def processes() -> set[int]:
        return {pid for worker in workers(server) for pid in model_processes(worker)}

    faults, before = list[Fault](), processes()
    with load(folder, server.address, *ASKED) as running:

        def replaced() -> bool:
            assert server.post("/predict/unruly", {"rows": [{"x": user_models.LEAKS}]}).status == 200
            return not before & processes()

        for _ in range(TIMES):
            until(replaced, "other processes")
            faults.append(now())
            before = processes()
        running.wait_for_more(3)
        calls = running.end()
    check(calls, faults, folder / "server" / "home" / "records")
