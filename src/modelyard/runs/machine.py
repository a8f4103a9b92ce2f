"""What can be known of the machine, and which process is which."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from modelyard.domain.run import Machine, Process

SETTINGS = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "NPY_DISABLE_CPU_FEATURES",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "PYTHONOPTIMIZE",
    "TF_DETERMINISTIC_OPS",
    "TZ",
)
"""The only environment variables that are recorded: results depend on them, and they hold no secrets."""

_FEATURES = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512", "amx", "asimd", "sve")


def settings(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Those of `SETTINGS` that are set.

    >>> settings({"OMP_NUM_THREADS": "4", "AWS_SECRET_ACCESS_KEY": "x"})
    {'OMP_NUM_THREADS': '4'}
    """
    found = os.environ if environ is None else environ
    return {name: found[name] for name in SETTINGS if name in found}


def this_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """The machine that this is."""
    said = _first_of_each(cpuinfo)
    flags = (said.get("flags") or said.get("Features") or "").split()
    return Machine(
        host=platform.node(),
        platform=platform.platform(),
        processor=said.get("model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        features=tuple(sorted(flag for flag in flags if flag.startswith(_FEATURES))),
    )


def _first_of_each(cpuinfo: Path) -> dict[str, str]:
    try:
        text = cpuinfo.read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def process(pid: int | None = None) -> Process:
    """A process that runs now, this one by default."""
    number = os.getpid() if pid is None else pid
    return Process(number, _started(number), _boot(), platform.node())


def is_gone(known: Process) -> bool:
    """Whether that process has ended; of processes on other machines nothing is known."""
    if known.host != platform.node():
        return False
    return known.boot != _boot() or _started(known.pid) != known.started


def _started(pid: int) -> int:
    """When it started, in clock ticks since the boot; 0 where there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
