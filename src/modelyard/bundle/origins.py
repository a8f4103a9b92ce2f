"""Where a module comes from: the standard library, an index, or the user."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Literal, TypeAlias

Origin: TypeAlias = Literal["standard library", "index", "user", "unknown"]
"""``index``: an installed distribution that an index can give again. ``user``: a file beside the training program, or
a distribution installed from a local folder or file. ``unknown``: it cannot be found."""

OWN = "modelyard"
"""Modelyard itself is never part of a model: the host stands in for it where a user's module imports it."""


def origin_of(module: str) -> Origin:
    """Where the top-level package of the dotted name `module` comes from.

    >>> origin_of("json.decoder"), origin_of("numpy.linalg"), origin_of("no_such_module")
    ('standard library', 'index', 'unknown')
    """
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "__main__":
        return "standard library"
    if top == OWN:
        return "index"
    names = distributions_of(top)
    if names:
        return "user" if all(_is_local(name) for name in names) else "index"
    spec = spec_of(top)
    if spec is None:
        return "unknown"
    return "user" if spec.origin not in ("built-in", "frozen") else "standard library"


def distributions_of(top: str) -> tuple[str, ...]:
    """The installed distributions that hold the top-level module `top`."""
    return tuple(dict.fromkeys(_by_module().get(top, ())))


@cache
def _by_module() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@cache
def _is_local(name: str) -> bool:
    """Whether a distribution was installed from a folder or a file of this machine, editable or not."""
    text = metadata.distribution(name).read_text("direct_url.json")
    return text is not None and str(json.loads(text).get("url", "")).startswith("file:")


def spec_of(module: str) -> ModuleSpec | None:
    """The spec of a module, loaded or not; None if there is none."""
    loaded = sys.modules.get(module)
    spec = getattr(loaded, "__spec__", None)
    if isinstance(spec, ModuleSpec):
        return spec
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None


def true_name(module: str) -> str:
    """The name by which a module can be imported anywhere, where what is loaded goes by another.

    Compiled modules of packages may call themselves by their last name alone (``_loss`` of ``sklearn._loss._loss``) and
    are then found under it once they are loaded, but not before.

    >>> true_name("json.decoder"), true_name("no_such_module"), true_name("os.path")
    ('json.decoder', 'no_such_module', 'posixpath')
    """
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return spec.name if isinstance(spec, ModuleSpec) and module != "__main__" else module


def source_of(module: str) -> Path | None:
    """The file of a module; None for namespaces and what is not a file.

    >>> source_of("json.decoder").name
    'decoder.py'
    """
    spec = spec_of(module)
    if spec is None or not spec.origin or not spec.has_location:
        return None
    path = Path(spec.origin)
    return path if path.is_file() else None
