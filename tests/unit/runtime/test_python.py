"""A model in a process of its own: same answers, and whatever it does to itself, the caller gets a clear error."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import native_bundles
from modelyard.bundle import native
from modelyard.bundle.frameworks import catalogue
from modelyard.bundle.native import InProcess
from modelyard.domain.frame import Frame
from modelyard.domain.schema import Schema
from modelyard.errors import EnvironmentFailed, ModelFailed, RowsRefused, RuntimeLost
from modelyard.runtime.python import PythonRuntime

SAMPLE = pd.DataFrame({"x": [1.0, 2.0, 3.0]})


def model(rows: Any) -> Any:
    """Twice x, with a habit for each of some values."""
    import os
    import sys
    import time

    x = rows["x"].iloc[0]
    if x == 101:
        print("hello from the model")  # noqa: T201
        os.write(1, b"raw bytes\n" * 1000)
    if x == 102:
        raise ValueError("102 is not for me")
    if x == 103:
        os._exit(3)
    if x == 104:
        sys.exit("leaving")
    if x == 105:
        time.sleep(60)
    if x == 106:
        raise MemoryError("too much")
    if x == 107:
        print("last words", file=sys.stderr, flush=True)  # noqa: T201
        os.abort()
    return rows["x"] * 2


def one(x: float) -> Frame:
    return native_bundles.frame_of(Schema("dataframe", SCHEMA.columns, ()), pd.DataFrame({"x": [x]}))


SCHEMA = native_bundles.schema_of(native_bundles.of_main(model), SAMPLE)


def eventually(what: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PythonRuntime]:
    runtime = native_bundles.start(tmp_path_factory.mktemp("bundle"), model, SAMPLE)
    yield runtime
    runtime.close()


@pytest.fixture
def runtime(shared: PythonRuntime) -> PythonRuntime:
    """The one process of this module, alive."""
    if not shared.alive():
        shared.restart()
    return shared


def answer(runtime: PythonRuntime, x: float = 4.0) -> float:
    return float(runtime.predict(one(x))["output"][0])


def test_it_answers_like_the_object_itself(tmp_path: Path) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table = native_bundles.table(40)
    columns = make_column_transformer((SimpleImputer(), ["amount"]), (OneHotEncoder(), ["city"]))
    pipeline = make_pipeline(columns, LogisticRegression()).fit(table, table["amount"].fillna(0) > 20)
    schema = native_bundles.schema_of(pipeline, table)
    frame = native_bundles.frame_of(schema, table)
    expected = InProcess(pipeline, schema).predict(frame)
    runtime = native_bundles.start(tmp_path, pipeline, table)
    try:
        got = runtime.predict(frame)
        assert list(got) == list(expected)
        assert all(got[name].dtype == expected[name].dtype for name in got)
        assert all(np.array_equal(got[name], expected[name]) for name in got)
        assert list(runtime.predict(frame, ["decision_function"])) == ["decision_function"]
    finally:
        runtime.close()


def test_what_the_model_prints_disturbs_nothing(runtime: PythonRuntime, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="modelyard.model"):
        assert answer(runtime, 101) == 202
        eventually(lambda: "hello from the model" in caplog.text)
    assert answer(runtime) == 8


def test_an_error_of_the_model_is_told_with_its_own_words_and_it_lives_on(runtime: PythonRuntime) -> None:
    pid = runtime.pid
    with pytest.raises(RowsRefused, match="ValueError: 102 is not for me"):
        answer(runtime, 102)
    with pytest.raises(ModelFailed, match="SystemExit: leaving"):
        answer(runtime, 104)
    with pytest.raises(ModelFailed, match="MemoryError: too much"):
        answer(runtime, 106)
    assert answer(runtime) == 8
    assert runtime.pid == pid


@pytest.mark.parametrize(("x", "words"), [(103, "ended with status 3"), (107, "SIGABRT(.|\n)*last words")])
def test_a_model_that_ends_its_process_is_lost_and_can_be_restarted(
    runtime: PythonRuntime, x: float, words: str
) -> None:
    with pytest.raises(RuntimeLost, match=words):
        answer(runtime, x)
    assert not runtime.alive()
    with pytest.raises(RuntimeLost):
        answer(runtime)
    runtime.restart()
    assert runtime.alive()
    assert answer(runtime) == 8


def test_a_killed_process_is_noticed(runtime: PythonRuntime) -> None:
    os.kill(runtime.pid, signal.SIGKILL)
    eventually(lambda: not runtime.alive())
    with pytest.raises(RuntimeLost, match="SIGKILL"):
        answer(runtime)
    runtime.restart()
    assert answer(runtime) == 8


def test_a_model_that_does_not_answer_is_stopped(tmp_path: Path) -> None:
    runtime = native_bundles.start(tmp_path, model, SAMPLE, timeout=0.5)
    try:
        pid = runtime.pid
        with pytest.raises(RuntimeLost, match=r"no answer within 0\.5 s"):
            answer(runtime, 105)
        assert gone(pid)
        runtime.restart()
        assert answer(runtime) == 8
    finally:
        runtime.close()


def test_an_interrupted_call_does_not_leave_its_answer_to_the_next(runtime: PythonRuntime) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*_: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupted):
            answer(runtime, 105)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert answer(runtime, 7) == 14


def test_threads_take_turns_and_get_their_own_answers(runtime: PythonRuntime) -> None:
    wrong: list[tuple[float, float]] = []

    def ask(start: int) -> None:
        for x in range(start, start + 50):
            got = answer(runtime, x)
            if got != 2 * x:
                wrong.append((x, got))

    threads = [threading.Thread(target=ask, args=(1000 * n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_many_rows_travel_too(runtime: PythonRuntime) -> None:
    x = np.arange(200_000, dtype=float) + 1000
    frame = native_bundles.frame_of(Schema("dataframe", SCHEMA.columns, ()), pd.DataFrame({"x": x}))
    assert np.array_equal(runtime.predict(frame)["output"], x * 2)


def test_the_process_gets_no_secrets_and_runs_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(rows: Any) -> Any:
        import os

        import numpy as np

        seen = " ".join(sorted(os.environ)) + f" threads={os.environ['OMP_NUM_THREADS']}"
        return np.array([seen] * len(rows), dtype=object)

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    runtime = native_bundles.start(tmp_path, native_bundles.of_main(facts), SAMPLE)
    try:
        seen = runtime.predict(one(1.0))["output"][0]
    finally:
        runtime.close()
    assert "DATABASE_PASSWORD" not in seen
    assert "threads=1" in seen


def test_closing_ends_the_process_and_can_be_repeated(tmp_path: Path) -> None:
    runtime = native_bundles.start(tmp_path, model, SAMPLE)
    pid = runtime.pid
    runtime.close()
    runtime.close()
    assert gone(pid)
    assert not runtime.alive()
    with pytest.raises(RuntimeLost):
        answer(runtime)
    with pytest.raises(RuntimeLost, match="closed"):
        runtime.restart()


def test_a_forgotten_runtime_leaves_no_process(tmp_path: Path) -> None:
    runtime = native_bundles.start(tmp_path, model, SAMPLE)
    pid = runtime.pid
    del runtime
    gc.collect()
    eventually(lambda: gone(pid))


def test_the_process_ends_with_a_killed_server(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, pathlib, time, threading
        sys.path.insert(0, sys.argv[2])
        import test_python_server as server
        runtime = server.start(pathlib.Path(sys.argv[1]))
        threading.Thread(target=server.ask, args=(runtime,), daemon=True).start()
        print(runtime.pid, flush=True)
        time.sleep(60)
        """
    )
    (tmp_path / "test_python_server.py").write_text(
        "import native_bundles\n"
        "import pandas as pd\n"
        "SAMPLE = pd.DataFrame({'x': [1.0]})\n"
        "def sleepy(rows):\n"
        "    import time\n"
        "    if rows['x'].iloc[0] == 2:\n"
        "        time.sleep(60)\n"
        "    return rows['x']\n"
        "native_bundles.of_main(sleepy)\n"
        "def start(folder):\n"
        "    return native_bundles.start(folder, sleepy, SAMPLE)\n"
        "def ask(runtime):\n"
        "    schema = native_bundles.schema_of(sleepy, SAMPLE)\n"
        "    runtime.predict(native_bundles.frame_of(schema, pd.DataFrame({'x': [2.0]})))\n"
    )
    environ = os.environ | {"PYTHONPATH": str(Path(native_bundles.__file__).parent)}
    command = [sys.executable, "-c", script, str(tmp_path / "bundle"), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert not gone(pid)
        server.kill()
    eventually(lambda: gone(pid))


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    def needy(rows: Any) -> Any:
        return rows["x"]

    saved = native.save(native_bundles.of_main(needy), catalogue.find(needy))
    files = dict(saved.files)
    files[saved.form.path] = b"cnot_installed_anywhere\nthing\n."
    native_bundles.write(tmp_path, files)
    with pytest.raises(EnvironmentFailed, match="needs the module 'not_installed_anywhere'"):
        PythonRuntime(tmp_path, native_bundles.manifest_of(SCHEMA, saved.form), native_bundles.PYTHON)


def test_a_model_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    saved = native.save(native_bundles.of_main(model), catalogue.find(model))
    native_bundles.write(tmp_path, {saved.form.path: b"no pickle at all"})
    with pytest.raises(ModelFailed, match="could not be loaded: UnpicklingError"):
        PythonRuntime(tmp_path, native_bundles.manifest_of(SCHEMA, saved.form), native_bundles.PYTHON)


def test_a_model_that_dies_while_loading_says_so(tmp_path: Path) -> None:
    saved = native.save(native_bundles.of_main(model), catalogue.find(model))
    native_bundles.write(tmp_path, {saved.form.path: b"cos\n_exit\n(I7\ntR."})
    with pytest.raises(ModelFailed, match=r"could not be loaded: .* ended with status 7"):
        PythonRuntime(tmp_path, native_bundles.manifest_of(SCHEMA, saved.form), native_bundles.PYTHON)


def test_an_interpreter_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"'python' .*cannot be started"):
        native_bundles.start(tmp_path, model, SAMPLE, python=tmp_path / "bin" / "python")


def test_the_users_modules_are_found_and_nothing_is_written_beside_them(tmp_path: Path) -> None:
    bundle, project = tmp_path / "bundle", tmp_path / "project"
    native_bundles.write(
        project,
        {
            "features.py": b"from shoplib import clean\n\ndef double(rows):\n    return clean.double(rows)\n",
            "shoplib/__init__.py": b"",
            "shoplib/clean.py": b"def double(rows):\n    return rows['x'] * 2\n",
        },
    )
    write_files = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "import features, modelyard.bundle.pickling as pickling\n"
        "pathlib.Path(sys.argv[2]).write_bytes(pickling.dumps(features.double))\n"
    )
    (bundle / "model").mkdir(parents=True)
    target = bundle / "model" / "native.pkl"
    subprocess.run([sys.executable, "-c", write_files, str(project), str(target)], check=True)
    native_bundles.write(bundle, {f"code/{p.relative_to(project)}": p for p in project.rglob("*.py")})
    before = sorted(bundle.rglob("*"))
    saved = native.save(native_bundles.of_main(model), catalogue.find(model))
    runtime = PythonRuntime(bundle, native_bundles.manifest_of(SCHEMA, saved.form), native_bundles.PYTHON)
    try:
        assert answer(runtime) == 8
    finally:
        runtime.close()
    assert sorted(bundle.rglob("*")) == before
