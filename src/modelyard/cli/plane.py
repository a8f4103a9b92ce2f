"""The data plane's options, as every command that starts one has them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Fsync(StrEnum):
    """Whether records are to survive a loss of power."""

    NEVER = "never"
    ALWAYS = "always"


Workers = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="Processes that answer; otherwise one a core.")
]
GrpcPort = Annotated[
    int | None,
    typer.Option(
        "--grpc-port", min=0, max=65535, metavar="PORT", help="Answer gRPC here too; 0: any free port. Off without it."
    ),
]
Durability = Annotated[
    Fsync | None,
    typer.Option(
        "--fsync",
        help="'always': answers wait until their records are on disk. 'never': a loss of power may take the last ones.",
        show_default="never",
    ),
]
Objective = Annotated[
    float | None,
    typer.Option(
        "--objective-ms",
        min=0.1,
        metavar="MS",
        help="Latency to keep: calls that would wait longer are refused, to be tried again.",
    ),
]
MaxBody = Annotated[
    int | None,
    typer.Option("--max-body", min=1, metavar="BYTES", help="Largest request body.", show_default="64 MiB"),
]
MaxRows = Annotated[
    int | None,
    typer.Option(
        "--max-rows", min=1, metavar="N", help="Most rows that one request may have; otherwise as many as fit its body."
    ),
]
DrainSeconds = Annotated[
    float | None,
    typer.Option(
        "--drain-seconds", min=0, metavar="S", help="How long open requests may take once it stops.", show_default="30"
    ),
]


AdminTokenFile = Annotated[
    Path | None,
    typer.Option(
        "--admin-token-file",
        metavar="FILE",
        help="Holds the token of those who may load and unload versions. MODELYARD_ADMIN_TOKEN works too; without"
        " either nobody may.",
    ),
]


MemoryBudget = Annotated[
    int | None,
    typer.Option(
        "--memory-budget-mb",
        min=1,
        metavar="MB",
        help="Unload versions that were not asked for longest while more memory is held; a call loads them again.",
    ),
]


def words(
    workers: int | None = None,
    grpc_port: int | None = None,
    fsync: Fsync | None = None,
    objective_ms: float | None = None,
    max_body: int | None = None,
    max_rows: int | None = None,
    drain_seconds: float | None = None,
    admin_token_file: Path | None = None,
    memory_budget_mb: int | None = None,
) -> tuple[str, ...]:
    """What was given, as it stands on the data plane's command line.

    >>> words(workers=2, grpc_port=0, fsync=Fsync.ALWAYS)
    ('--workers=2', '--grpc-port=0', '--fsync=always')
    """
    given = {
        "workers": workers,
        "grpc-port": grpc_port,
        "fsync": None if fsync is None else fsync.value,
        "objective-ms": objective_ms,
        "max-body": max_body,
        "max-rows": max_rows,
        "drain-seconds": drain_seconds,
        "memory-budget-mb": memory_budget_mb,
        "admin-token-file": None if admin_token_file is None else admin_token_file.absolute(),
    }
    return tuple(f"--{name}={value}" for name, value in given.items() if value is not None)
