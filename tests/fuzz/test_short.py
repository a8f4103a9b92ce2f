"""The fuzzers' seeds, a few thousand changes to them, and some seconds of fuzzing; ``make fuzz`` is the long form."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.__main__ import ALL

TESTS = Path(__file__).parent.parent


@cache
def fuzzer(name: str) -> Any:
    return importlib.import_module(f"fuzz.{name}")


@cache
def seeds(name: str) -> list[bytes]:
    return [seed for seed in fuzzer(name).seeds() if len(seed) < 10_000]


@pytest.mark.parametrize("name", ALL)
def test_seeds_are_read_or_refused(name: str) -> None:
    for seed in fuzzer(name).seeds():
        fuzzer(name).one(seed)


@st.composite
def changed(draw: st.DrawFn, name: str) -> bytes:
    """A seed with a few of its bytes replaced, left out, or put in."""
    body = draw(st.sampled_from(seeds(name)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = start + draw(st.sampled_from([0, 0, 1, 1, 4, len(body)]))
        put = draw(st.binary(max_size=4) | st.sampled_from([word.encode() for word in fuzzer(name).WORDS]))
        body = body[:start] + put + body[end:]
    return body


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_changed_seeds_are_read_or_refused(name: str, data: st.DataObject) -> None:
    fuzzer(name).one(data.draw(changed(name)))


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this machine")
def test_fuzzing_finds_nothing_in_a_few_seconds(tmp_path: Path) -> None:
    names = ("oip_binary", "arrow_streams", "http1_bytes")
    command = [sys.executable, "-m", "fuzz", *names, "--seconds", "10", "--runs", "1000", "--corpus", str(tmp_path)]
    paths = [str(TESTS), *sys.path]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, capture_output=True)
    assert ended.returncode == 0, ended.stdout.decode(errors="replace")
    assert ended.stdout.count(b"nothing found") == len(names)
