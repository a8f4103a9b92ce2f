"""How commands talk: text for people, JSON for machines, exit codes that mean something."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
import typer

from modelyard.errors import Conflict, Failed, ModelyardError, NotFound, Rejected, StillReferenced, Unavailable

if TYPE_CHECKING:
    from rich.console import Console

EXIT_CODES: dict[type[ModelyardError], int] = {
    NotFound: 3,
    Conflict: 4,
    Rejected: 5,
    Failed: 6,
    Unavailable: 7,
}
"""0 done, 1 checked and not good (a failed verification), 2 wrong usage, the rest by kind of error."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
"""The option that every command has."""

TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Let a bundle that is not registered here run the code it brings.")
]
"""The option of commands that compute with a bundle's folder."""


class _Later:
    """A console that is made when it is first used: Rich takes time to load, and JSON needs none of it."""

    def __init__(self, *, stderr: bool) -> None:
        self._stderr = stderr

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console

        return Console(stderr=self._stderr, highlight=False, soft_wrap=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._console, name)

    # Bars enter their console; Python looks for these on the class.
    def __enter__(self) -> Console:
        return self._console.__enter__()

    def __exit__(self, *exc: object) -> None:
        self._console.__exit__(*exc)


out = cast("Console", _Later(stderr=False))
err = cast("Console", _Later(stderr=True))


def emit(data: Any, as_json: bool, text: Callable[[], None]) -> None:
    """Print `data` as one JSON document, or call `text` to print it for people."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(data, order="deterministic"), indent=2).decode())
        sys.stdout.write("\n")
    else:
        text()


@contextmanager
def reported_errors(as_json: bool) -> Iterator[None]:
    """Turn Modelyard's errors into one line (or JSON) on standard error and an exit code; no stack trace."""
    try:
        yield
    except ModelyardError as error:
        if os.environ.get("MODELYARD_DEBUG"):
            traceback.print_exc()
        code = next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
        if as_json:
            document: dict[str, Any] = {"error": str(error), "kind": type(error).__name__, "exit_code": code}
            if isinstance(error, StillReferenced):
                document["references"] = error.references
            sys.stderr.write(msgspec.json.encode(document).decode() + "\n")
        else:
            err.print(f"[bold red]error:[/] {_escape(str(error))}")
        raise typer.Exit(code) from None


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
