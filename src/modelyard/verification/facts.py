"""Where a verification ran: what numbers may depend on besides the packages."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from modelyard.domain.environment import Environment


def host_facts(trained: Environment) -> dict[str, str]:
    """This machine and process, beside what training noted, as texts."""
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": str(len(os.sched_getaffinity(0))),
        "training python": trained.python,
        "training platform": trained.platform,
        "training blas": trained.blas or "none",
        "training threads": ", ".join(f"{pool} {size}" for pool, size in sorted(trained.threads.items())) or "unknown",
    }
    for name in ("modelyard", "onnxruntime", "numpy"):
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    return facts


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's own name for itself; its architecture where it does not say."""
    try:
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.machine()
