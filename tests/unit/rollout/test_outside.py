"""Counters of a Prometheus server and answers of a web hook, asked over the wire."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from modelyard.errors import InvalidRequest
from modelyard.rollout import policy as policies
from modelyard.rollout.batches import Batch, Divided
from modelyard.rollout.outside import Outside
from modelyard.rollout.policy import Policy, Rule, Step
from modelyard.rollout.subject import Subject

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
SUBJECT = Subject(deployment="live", baseline="toy@1", candidate="toy@2", began=BEGAN)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def batch(since: float, until: float) -> Batch:
    return Batch(since=at(since), until=at(until))


@contextmanager
def answering(answer: Callable[[str, dict[str, Any]], tuple[int, Any]]) -> Iterator[str]:
    """A server that answers a path and what was asked with a status and a document, or with text as it is."""

    class Talk(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._say(answer(parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}))

        def do_POST(self) -> None:
            self._say(answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def _say(self, said: tuple[int, Any]) -> None:
            body = said[1].encode() if isinstance(said[1], str) else json.dumps(said[1]).encode()
            self.send_response(said[0])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Talk) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def vector(*values: float) -> dict[str, Any]:
    result = [{"metric": {"pod": str(each)}, "value": [0, str(value)]} for each, value in enumerate(values)]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def policy_at(url: str, **more: Any) -> Policy:
    return Policy(steps=(Step(0.5), Step(1.0)), rules=(Rule("timeouts", 0.01, url=url, **more),))


COUNTERS = {"query": 'bad{v="{version}",m="{model}"}', "total": 'all{v="{version}",d="{deployment}"}'}


def test_counters_of_both_versions_are_read_at_both_ends() -> None:
    """They grow by 2 and 3 a second of all calls, of which 0.5 and 1 are bad; 200 s in the candidate starts anew."""

    def prometheus(path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        assert path == "/prom/api/v1/query"
        seconds = float(asked["time"]) - BEGAN.timestamp()
        rates = {
            'bad{v="1",m="toy"}': 0.5,
            'all{v="1",d="live"}': 2.0,
            'bad{v="2",m="toy"}': 1.0,
            'all{v="2",d="live"}': 3.0,
        }
        again = seconds - 200.0 if seconds >= 200.0 and 'v="2"' in asked["query"] else seconds + 1000.0
        return 200, vector(rates[asked["query"]] * again)

    with answering(prometheus) as url:
        outside, policy = Outside(), policy_at(f"{url}/prom/", **COUNTERS)
        found = [outside.added(batch(since, since + 5), SUBJECT, policy, 0.5) for since in range(0, 220, 5)]
        outside.close()
    counted = [each.divided["timeouts"] for each in found if each.divided]
    assert len(counted) == 22, "every ten seconds"
    whole = sum(counted, Divided())
    # It was last asked up to 215; of the candidate's calls between 195 and 200 nothing is left.
    assert whole == Divided(2.0 * 215, 0.5 * 215, 3.0 * 210, 1.0 * 210)


def test_a_hook_is_told_who_and_since_when() -> None:
    heard = []

    def hook(_: str, asked: dict[str, Any]) -> tuple[int, Any]:
        heard.append(asked)
        return 200, {"baseline": {"calls": 90, "bad": 2}, "candidate": {"calls": 10, "bad": 1}, "note": "more"}

    with answering(hook) as url:
        found = Outside().added(batch(0, 2), SUBJECT, policy_at(f"{url}/counts"), 0.5)
    assert found.divided["timeouts"] == Divided(90.0, 2.0, 10.0, 1.0)
    assert heard[0]["baseline"] == "toy@1"
    assert (heard[0]["since"], heard[0]["until"]) == (at(0).isoformat(), at(2).isoformat())


def test_a_source_that_does_not_answer_is_broken_and_nothing_is_lost_when_it_comes_back() -> None:
    state = {"status": 503}
    since = []

    def hook(_: str, asked: dict[str, Any]) -> tuple[int, Any]:
        since.append(asked["since"])
        return state["status"], {"baseline": {"calls": 1, "bad": 0}, "candidate": {"calls": 1, "bad": 0}}

    with answering(hook) as url:
        outside, policy = Outside(), policy_at(url)
        assert "status 503" in outside.added(batch(0, 2), SUBJECT, policy, 0.5).broken["timeouts"]
        state["status"] = 200
        assert "status 503" in outside.added(batch(2, 4), SUBJECT, policy, 0.5).broken["timeouts"]
        back = outside.added(batch(4, 14), SUBJECT, policy, 0.5)
        assert not back.broken
        assert back.divided
        assert not outside.added(batch(14, 16), SUBJECT, policy, 0.5).divided
    assert since == [at(0).isoformat(), at(0).isoformat()]
    assert "does not answer" in Outside().added(batch(0, 2), SUBJECT, policy, 0.5).broken["timeouts"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (vector(1.0, 2.0), "put sum()"),
        (vector(float("nan")), "nan where a counter"),
        ({"data": "none"}, "as Prometheus does"),
        ("<html>", "JSON"),
        (" " * 1_100_000, "more than a megabyte"),
    ],
)
def test_answers_that_say_nothing(said: Any, why: str) -> None:
    with answering(lambda _path, _asked: (200, said)) as url:
        found = Outside().added(batch(0, 2), SUBJECT, policy_at(url, **COUNTERS), 0.5)
    assert why in found.broken["timeouts"]
    assert not found.divided


@pytest.mark.parametrize("bad", [-1, 11, None, "many"])
def test_counts_that_cannot_be(bad: Any) -> None:
    said = {"baseline": {"calls": 10, "bad": bad}, "candidate": {"calls": 10, "bad": 0}}
    with answering(lambda _path, _asked: (200, said)) as url:
        assert Outside().added(batch(0, 2), SUBJECT, policy_at(url), 0.5).broken


def test_a_query_that_is_not_understood_is_told_with_its_reason_and_no_secret() -> None:
    with answering(lambda _path, _asked: (400, {"error": "parse error"})) as url:
        secret = url.replace("http://", "http://ada:hush@") + "/?token=hush"
        why = Outside().added(batch(0, 2), SUBJECT, policy_at(secret, **COUNTERS), 0.5).broken["timeouts"]
    assert "parse error" in why
    assert "hush" not in why


def test_nobody_is_asked_while_nothing_is_divided() -> None:
    for share in (0.0, 1.0):
        assert Outside().added(batch(0, 2), SUBJECT, policy_at("http://127.0.0.1:1"), share) == batch(0, 2)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Rule("timeouts", 0.1), "there is no metric 'timeouts'"),
        (Rule("errors", 0.1, url="http://there"), "name of its own"),
        (Rule("timeouts", 0.1, url="ftp://there"), "http://"),
        (Rule("timeouts", 0.1, url="http://there", query="x"), "both or none"),
        (Rule("loss", 0.1), "bound"),
        (Rule("different", 0.1), "shadow"),
        (Rule("unusable", 0.1, range=(1.0, 1.0)), "range"),
    ],
)
def test_metrics_that_cannot_be_measured_are_refused(rule: Rule, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        policies.check(Policy(steps=(Step(0.5), Step(1.0)), rules=(rule,)))
    policies.check(msgspec.structs.replace(Policy(), rules=(Rule("different", 0.1), Rule("loss", 0.1, bound=2.0))))
