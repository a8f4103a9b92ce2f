"""Texts and paths on the command line, taken as they are.

Typer hands every parameter to a validation library that takes longer to load than most commands take to run. A text
that is to be a text or a path needs none. Everything else (numbers, choices, whatever Typer has not got) goes its usual
way, and so does all where Typer is another inside.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_UNTOUCHED = object()


class PlainWords:
    """Stands before a parameter's own conversion, which is only built when there is something to convert."""

    def __init__(self, descriptor: Any) -> None:
        self._descriptor = descriptor

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """`value` as the command expects it.

        Raises:
            typer.BadParameter: it is not what the parameter takes.
        """
        from typer import _coercion

        taken = _UNTOUCHED
        if self._descriptor.parameter_info.parser is None:
            taken = self._plain(value, param, ctx)
        if taken is _UNTOUCHED:
            taken = _coercion.build_runtime_param(self._descriptor).coerce(value, param=param, ctx=ctx)
        return taken

    def _plain(self, value: Any, param: Any, ctx: Any) -> Any:
        """None, and texts for `str`, `list[str]` and `Path`."""
        from typer._param_types import coerce_cli_path

        kind, is_many = self._descriptor.annotation, param.multiple or param.nargs == -1
        if value is None:
            return () if is_many else None
        if kind is str and type(value) is str and not is_many:
            return value
        if kind == list[str] and is_many and isinstance(value, list | tuple) and all(type(one) is str for one in value):
            return list(value)
        if kind is Path and type(value) is str and not is_many:
            info = self._descriptor.parameter_info
            return coerce_cli_path(Path(value), info, path_type=Path, param=param, ctx=ctx)
        return _UNTOUCHED


def with_plain_words(params: list[Any]) -> list[Any]:
    """The same parameters, each with `PlainWords` before its conversion where it has none yet."""
    for param in params:
        if getattr(param, "_runtime_param", _UNTOUCHED) is None:
            param._runtime_param = PlainWords(param.type_descriptor)  # noqa: SLF001  # there is no other way in
    return params


def take_words_as_they_are(command: Any) -> None:
    """Let a command, and the commands of a group, hand out its parameters so, those for help included."""
    for each in (command, *getattr(command, "commands", {}).values()):
        each.get_params = partial(_params, each.get_params)


def _params(own: Callable[[Any], list[Any]], ctx: Any) -> list[Any]:
    return with_plain_words(own(ctx))
