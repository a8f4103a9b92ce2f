"""Two versions behind one deployment, on real planes and under load: divided, switched, shadowed, ended either way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

import compiled_bundles
from load import RIGHT, Target, load
from modelyard.client import Client
from modelyard.errors import InvalidInput
from modelyard.home import Home
from modelyard.protocol import rows
from modelyard.records.log import RecordFiles
from modelyard.registry import Registry
from scenarios.test_up_deploy import Yard, eventually
from small_bundles import report

BIASES = {"1": 0.0, "2": 1.0}
BODY = rows.write_request(compiled_bundles.frame(1), compiled_bundles.schema())


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(Home(tmp_path / "yard").create())
    yield made
    made.down()


def registered(yard: Yard, folder: Path, bias: float) -> str:
    with Registry.open(yard.home) as registry:
        bundle = compiled_bundles.write_compiled(folder, bias=bias)
        version = registry.register(bundle)
        registry.add_report(version, report(bundle, version.number))
        return version.ref


def version(url: str, key: str | None = None, path: str = "/predict/live") -> int:
    headers = {"X-Modelyard-Key": key} if key else {}
    answer = httpx.post(f"{url}{path}", content=BODY, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    found: int = answer.json()["version"]
    return found


def shares(url: str, keys: list[str]) -> dict[str, int]:
    with httpx.Client(trust_env=False) as client:
        return {
            key: client.post(f"{url}/predict/live", content=BODY, headers={"X-Modelyard-Key": key}).json()["version"]
            for key in keys
        }


def test_all_ways_of_an_update_cost_no_call_and_mix_no_answer(yard: Yard, tmp_path: Path) -> None:
    first, second = (registered(yard, tmp_path / str(bias), bias) for bias in (0.0, 1.0))
    there = yard.up()
    url = there.data.url
    yard.json("deploy", first, "--to", "live")
    keys = [f"customer-{number}" for number in range(120)]
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with load(tmp_path, address, Target("/predict/live", callers=2, rows=2, biases=BIASES)) as running:
        yard.json("deploy", second, "--to", "live", "--strategy", "ab", "--share", "0.3")
        some = shares(url, keys)
        assert 10 < Counter(some.values())[2] < 70
        assert shares(url, keys) == some, "a key stays with its version, whichever worker answers"
        assert [version(url, path=f"/predict/live/versions/{number}") for number in (1, 2)] == [1, 2]
        code, _, said = yard.run("deploy", second, "--to", "live")
        assert (code, "modelyard promote live" in said) == (4, True)

        yard.json("rollout", "share", "live", "0.8", "--reason", "it does well")
        more = eventually(lambda: (found := shares(url, keys)) != some and found)
        assert all(more[key] == 2 for key in keys if some[key] == 2)
        running.wait_for_more(5)

        assert yard.json("promote", "live")["state"] == "done"
        assert set(shares(url, keys).values()) == {2}
        eventually(lambda: yard.json("rollout", "show", "live")["rollout"]["state"] == "promoted")
        assert set(shares(url, keys).values()) == {2}

        yard.json("deploy", first, "--to", "live", "--strategy", "blue-green")
        eventually(lambda: set(shares(url, keys).values()) == {1})
        entry = yard.json("status")["deployments"][0]
        assert (entry["answers"], entry["candidate"]["asked"], entry["candidate"]["state"]) == (second, first, "READY")
        assert yard.json("rollback", "live", "--reason", "slower")["state"] == "done"
        assert set(shares(url, keys).values()) == {2}
        running.wait_for_more(5)
        calls = running.end()
    # Every row of an answer was checked against the one version that the answer names.
    assert {call.outcome for call in calls} == {RIGHT}
    assert {call.version for call in calls} == {"1", "2"}
    shown = yard.run("rollout", "show", "live")[1]
    assert "rolled back" in shown
    assert "slower" in shown


def test_a_shadow_computes_what_is_asked_and_nobody_sees_it(yard: Yard, tmp_path: Path) -> None:
    first, second = (registered(yard, tmp_path / str(bias), bias) for bias in (0.0, 1.0))
    url = yard.up().data.url
    yard.json("deploy", first, "--to", "live")
    yard.json("deploy", second, "--to", "live", "--strategy", "shadow")
    assert set(shares(url, [str(number) for number in range(20)]).values()) == {1}

    def recorded() -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {"live": {}, "live.candidate": {}}
        for record in RecordFiles(yard.home.records).predictions():
            found[record.deployment][record.prediction_id] = record
        return found

    both = eventually(lambda: len((found := recorded())["live.candidate"]) == 20 and found)
    assert both["live"].keys() == both["live.candidate"].keys()
    for name, record in both["live.candidate"].items():
        assert (record.version, record.outcome) == (2, "ok")
        assert record.request == both["live"][name].request
        assert record.response != both["live"][name].response


def test_calls_about_one_thing_stay_together_by_an_input(yard: Yard, tmp_path: Path) -> None:
    first, second = (registered(yard, tmp_path / str(bias), bias) for bias in (0.0, 1.0))
    url = yard.up().data.url
    yard.json("deploy", first, "--to", "live")
    yard.json("deploy", second, "--to", "live", "--strategy", "ab", "--key", "x0")

    def asked(value: float, others: float) -> int:
        row = {"x0": value, "x1": others, "x2": others, "carrier": "UA"}
        answer = httpx.post(f"{url}/predict/live", json={"rows": [row]}, trust_env=False)
        assert answer.status_code == 200, answer.text
        found: int = answer.json()["version"]
        return found

    went = {value: {asked(value, others) for others in (0.0, 1.0, 2.0)} for value in map(float, range(24))}
    assert all(len(versions) == 1 for versions in went.values())
    assert set.union(*went.values()) == {1, 2}


def test_the_python_client_asks_either_version(yard: Yard, tmp_path: Path) -> None:
    first, second = (registered(yard, tmp_path / str(bias), bias) for bias in (0.0, 1.0))
    url = yard.up().data.url
    yard.json("deploy", first, "--to", "live")
    yard.json("deploy", second, "--to", "live", "--strategy", "ab")
    columns: dict[str, Any] = {f"x{number}": [0.5, 1.5] for number in range(3)} | {"carrier": ["UA", "UA"]}
    with Client(url) as client:
        for number in range(16):
            assert len(client.predict("live", pd.DataFrame(columns), key=f"customer-{number}")) == 2
        # Of more rows than one request takes all are answered by one version.
        many = pd.DataFrame({name: values * 60_000 for name, values in columns.items()})
        assert len(client.predict("live", many)) == 120_000
        with pytest.raises(InvalidInput, match="x9"):
            client.predict("live", pd.DataFrame(columns | {"x9": [1.0, 2.0]}))
    calls = [record for record in RecordFiles(yard.home.records).predictions() if record.outcome == "ok"]
    assert {record.version for record in calls} == {1, 2}
    assert len({record.version for record in calls if record.rows > 2}) == 1
    assert [record.rows for record in calls].count(2) == 16  # each was asked once, whichever version answered
    metadata = httpx.get(f"{url}/v2/models/live", trust_env=False).json()
    assert (metadata["name"], sorted(metadata["versions"])) == ("live", ["1", "2"])
