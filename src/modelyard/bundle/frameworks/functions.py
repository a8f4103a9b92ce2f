"""Any Python callable over rows, with an optional load step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from modelyard.bundle.frameworks.base import Meaning, NativeFormat, ask_once, outputs_of
from modelyard.bundle.frameworks.sklearn import rows_of
from modelyard.domain.names import check_name
from modelyard.domain.schema import Column, Output
from modelyard.errors import CannotPack


@dataclass(frozen=True, eq=False)
class WithLoad:
    """A function of a state and rows. `load` makes the state, once in each process, from files if there are any.

    `artifacts` are files or folders by name; `load` gets a dict of their paths, or nothing where there are none.
    """

    call: Callable[[Any, Any], Any]
    load: Callable[..., Any]
    artifacts: Mapping[str, Path] = field(default_factory=dict)

    def __call__(self, rows: Any) -> Any:
        """What the function answers; the first call loads the state."""
        return self.call(self._state, rows)

    @cached_property
    def _state(self) -> Any:
        return self.load(dict(self.artifacts)) if self.artifacts else self.load()

    def files(self, under: str) -> dict[str, Path]:
        """Every file of the artifacts, by its path in the bundle."""
        found: dict[str, Path] = {}
        for name, path in sorted(self.artifacts.items()):
            inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            for file in inside:
                found[f"{under}/{name}/{path.name}/{file.relative_to(path)}".removesuffix("/.")] = file
        return found


def with_load(
    function: Any, load: Callable[..., Any] | None = None, artifacts: Mapping[str, str | Path] | None = None
) -> Any:
    """`function` with its load step; as it is where there is neither a step nor a file.

    Raises:
        CannotPack: artifacts without a load step that would read them, a missing file, or something not callable.
    """
    if load is None and not artifacts:
        return function
    if load is None:
        raise CannotPack("artifacts are given but no load step: pass load=, a function that gets their paths by name")
    if not callable(function) or not callable(load):
        raise CannotPack("with a load step, both it and the model are functions: load() -> state, model(state, rows)")
    paths = {check_name(name, "file"): Path(path).resolve() for name, path in (artifacts or {}).items()}
    for name, path in paths.items():
        if not path.exists():
            raise CannotPack(f"artifact {name!r}: there is no file or folder {path.name!r} where it should be")
    return WithLoad(function, load, paths)


class FunctionFramework:
    """A function, or any object that can be called with rows."""

    name = "callable"
    formats: tuple[NativeFormat, ...] = ("cloudpickle",)

    def handles(self, estimator: Any) -> bool:
        """Whether it can be called and is not a class."""
        return callable(estimator) and not isinstance(estimator, type)

    def title(self, estimator: Any) -> str:
        """Module and name of the function, or of the class of the object.

        >>> FunctionFramework().title(len)
        'builtins.len'
        """
        named = estimator.call if isinstance(estimator, WithLoad) else estimator
        named = named if hasattr(named, "__qualname__") else type(named)
        return f"{named.__module__}.{named.__qualname__}"

    def describe(self, estimator: Any, sample: Any, columns: Sequence[Column]) -> tuple[Output, ...]:
        """One output for each column, key or item that it answers; one called ``output`` for a single array."""
        returned = ask_once(self.title(estimator), estimator, sample)
        return outputs_of("__call__", "output", returned, rows_of(sample), Meaning("value"))
