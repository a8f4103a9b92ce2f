"""Fuzzes the decoders, each in a process of its own: ``make fuzz ARGS="--seconds 600 arrow_streams"``.

Coverage guides it: inputs that reach new code are kept under ``--corpus`` and tried again in other forms the next time.
An input that raises, hangs or takes too much memory is kept there too, its name is printed, and the status is 1. To see
one again: ``make fuzz ARGS="--again PATH arrow_streams"``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

ALL = (
    "oip_json",
    "oip_binary",
    "rows_json",
    "invocations",
    "grpc_messages",
    "arrow_streams",
    "compressed",
    "http1_bytes",
)
_INSTRUMENTED = ["modelyard.protocol", "modelyard.serving.compression", "modelyard.serving.http1"]
_SLOWEST_SECONDS = 10
_MOST_MIB = 1536
_LONGEST = 8192


def main() -> int:
    """Fuzz what was asked for, one after another; 1 where one of them found something."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("names", nargs="*", choices=[[], *ALL], help="fuzzers; all of them unless named")
    parser.add_argument("--seconds", type=int, default=60, help="for each")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each, -1 for as many as there is time for")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"))
    parser.add_argument("--again", type=Path, help="look at this one input only")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    names = asked.names or list(ALL)
    if asked.inside:
        fuzz(names[0], asked)
    return max(in_a_process(name) for name in names)


def in_a_process(name: str) -> int:
    """Fuzz one decoder, whose process ends with the first finding."""
    others = [word for word in sys.argv[1:] if word not in ALL]
    command = [sys.executable, "-m", "fuzz", name, "--inside", *others]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    lines = ended.stderr.splitlines()
    if ended.returncode:
        sys.stdout.write(ended.stdout + "\n".join(line for line in lines if not line.startswith("#")) + "\n")
    sys.stdout.write(f"{name}: {_summary(lines)}, {'something was found' if ended.returncode else 'nothing found'}\n")
    sys.stdout.flush()
    return int(ended.returncode != 0)


def _summary(lines: list[str]) -> str:
    stats = dict(line.removeprefix("stat::").split(":", 1) for line in lines if line.startswith("stat::"))
    covered = [line.split("cov: ")[1].split()[0] for line in lines if "cov: " in line]
    runs, memory = (stats.get(key, "?").strip() for key in ("number_of_executed_units", "peak_rss_mb"))
    return f"{runs} inputs, {covered[-1] if covered else '?'} branches, {memory} MiB at most"


def fuzz(name: str, asked: Any) -> None:
    """Fuzz one decoder in this process, which ends here."""
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        fuzzer: Any = importlib.import_module(f"fuzz.{name}")
    corpus, found = asked.corpus / name, asked.corpus / "found"
    found.mkdir(parents=True, exist_ok=True)
    sown = write_seeds(fuzzer, asked.corpus / "seeds" / name)
    words = asked.corpus / f"{name}.dict"
    words.write_text("".join(f'"{escaped(word)}"\n' for word in fuzzer.WORDS))
    options = [
        f"-max_total_time={asked.seconds}",
        f"-runs={asked.runs}",
        f"-timeout={_SLOWEST_SECONDS}",
        f"-rss_limit_mb={_MOST_MIB}",
        f"-max_len={_LONGEST}",
        f"-artifact_prefix={found / name}-",
        f"-dict={words}",
        "-print_final_stats=1",
    ]
    where = [str(asked.again)] if asked.again else [str(corpus), str(sown)]
    corpus.mkdir(parents=True, exist_ok=True)
    limit_memory()
    atheris.Setup([name, *options, *where], fuzzer.one)
    atheris.Fuzz()


def write_seeds(fuzzer: Any, folder: Path) -> Path:
    """The fuzzer's seeds as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(fuzzer.seeds()):
        (folder / f"{number:03}").write_bytes(seed)
    return folder


def escaped(word: str) -> str:
    r"""A text as libFuzzer's dictionaries have it.

    >>> escaped('"é')
    '\\x22\\xc3\\xa9'
    """
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}" for byte in word.encode())


def limit_memory() -> None:
    """No more address space than is there now and 2 GiB: who claims more raises instead of being killed."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGESIZE") + (2 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    sys.exit(main())
