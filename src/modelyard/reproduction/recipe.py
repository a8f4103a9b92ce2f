"""What a run is made from, as far as it can be chosen: and how two recipes differ, one ingredient at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from modelyard.bundle.environment import overridden
from modelyard.domain.environment import Distribution, Environment
from modelyard.domain.reproduction import Ingredient
from modelyard.domain.run import Machine, Run

THREADS = ("MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that set the size of thread pools; one ingredient together."""

KERNELS = ("MKL_CBWR", "NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE")
"""Variables that choose numerical kernels."""

_POOLS = {"mkl": "MKL_NUM_THREADS", "openblas": "OPENBLAS_NUM_THREADS", "openmp": "OMP_NUM_THREADS"}
_KERNEL_NEEDS: dict[str, tuple[str, ...]] = {
    "nehalem": ("sse4_2",),
    "sandybridge": ("avx",),
    "haswell": ("avx2", "fma"),
    "zen": ("avx2", "fma"),
    "skylakex": ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
    "cooperlake": ("avx512f", "avx512_bf16"),
    "sapphirerapids": ("avx512f", "avx512_bf16", "amx_tile"),
}
"""Features that a processor needs for kernels of OpenBLAS; of others nothing is known."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """`code` and `data` name the runs whose code and data are meant; `settings` are environment variables."""

    code: str
    data: str
    command: tuple[str, ...]
    environment: Environment
    settings: Mapping[str, str]


def recipe_of(run: Run, environment: Environment, here: Machine) -> Recipe:
    """How to repeat `run` on the machine `here`, as much like the first time as can be chosen.

    Sizes of thread pools and kernels that the run did not choose, but had from its machine, are set where this machine
    would give others.
    """
    settings = {**pinned_threads(run, here), **pinned_kernel(run, here), **run.settings}
    return Recipe(run.id, run.id, run.command, environment, settings)


def pinned_threads(run: Run, here: Machine) -> dict[str, str]:
    """Sizes of the run's thread pools, as variables, where they are not what this machine would choose by itself."""
    pools = run.environment.threads if run.environment is not None else {}
    return {_POOLS[pool]: str(size) for pool, size in pools.items() if pool in _POOLS and size != here.cores}


def pinned_kernel(run: Run, here: Machine) -> dict[str, str]:
    """The kernels of OpenBLAS that the run had, where processors differ and this one can compute with them.

    >>> _runs_here("Haswell", ("avx", "avx2", "fma")), _runs_here("SkylakeX", ("avx2", "fma"))
    (True, False)
    """
    said = run.environment.blas.split() if run.environment is not None else []
    differ = set(run.machine.features) != set(here.features)
    if len(said) < 3 or said[0] != "openblas" or not differ or not _runs_here(said[-1], here.features):
        return {}
    return {"OPENBLAS_CORETYPE": said[-1]}


def _runs_here(kernel: str, features: Sequence[str]) -> bool:
    needs = _KERNEL_NEEDS.get(kernel.lower())
    return needs is not None and set(needs) <= set(features)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What to exchange on purpose: the size of all thread pools, packages as ``name==version``, variables."""

    threads: int | None = None
    packages: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()

    def said(self) -> tuple[str, ...]:
        """In words, one each; empty where nothing is exchanged."""
        threads = (f"{self.threads} threads",) if self.threads is not None else ()
        return (*threads, *self.packages, *(f"{name}={value}" for name, value in self.settings))


def with_changes(recipe: Recipe, what_if: WhatIf) -> Recipe:
    """The recipe with ingredients exchanged.

    Raises:
        InvalidRequest: a package is not in the environment, or not given as ``name==version``.
    """
    threads = {} if what_if.threads is None else dict.fromkeys(THREADS, str(what_if.threads))
    return replace(
        recipe,
        environment=overridden(recipe.environment, what_if.packages),
        settings={**recipe.settings, **threads, **dict(what_if.settings)},
    )


def differences(before: Recipe, after: Recipe) -> tuple[Ingredient, ...]:
    """In which ingredients two recipes differ, those first that are cheapest to try."""
    return tuple(_differences(before, after))


def _differences(before: Recipe, after: Recipe) -> Iterator[Ingredient]:
    if _threads(before) != _threads(after):
        yield Ingredient("threads", "threads", _threads(before), _threads(after))
    names = before.settings.keys() | after.settings.keys()
    for name in sorted(names - set(THREADS)):
        values = before.settings.get(name, ""), after.settings.get(name, "")
        if values[0] != values[1]:
            yield Ingredient("kernel" if name in KERNELS else "setting", name, *values)
    if before.command != after.command:
        yield Ingredient("command", "", " ".join(before.command), " ".join(after.command))
    if before.code != after.code:
        yield Ingredient("code", "", f"of run {before.code}", f"of run {after.code}")
    if before.data != after.data:
        yield Ingredient("data", "", f"of run {before.data}", f"of run {after.data}")
    if before.environment.python != after.environment.python:
        yield Ingredient("python", "", before.environment.python, after.environment.python)
    yield from packages(before.environment, after.environment)


def packages(before: Environment, after: Environment) -> Iterator[Ingredient]:
    """Distributions of both whose versions or, with known digests, files differ; those of one side alone too.

    >>> one, two = (Environment("3.11.9", "x", (Distribution("six", text),)) for text in ("1.16", "1.17"))
    >>> [str(each) for each in packages(one, two)]
    ['package six: 1.16, now 1.17']
    """
    olds, news = _by_name(before), _by_name(after)
    for name in sorted(olds.keys() | news.keys()):
        old, new = olds.get(name), news.get(name)
        versions = old.version if old else "", new.version if new else ""
        if versions[0] != versions[1]:
            yield Ingredient("package", name, *versions)
        elif old and new and old.content and new.content and old.content != new.content:
            yield Ingredient("package", name, *versions, evidence="the installed files are others")


def _by_name(environment: Environment) -> dict[str, Distribution]:
    return {one.name: one for one in environment.distributions}


def _threads(recipe: Recipe) -> str:
    """How many, in one word where all pools agree; nothing where the machine decides."""
    found = {name: recipe.settings[name] for name in THREADS if name in recipe.settings}
    counts = set(found.values())
    return counts.pop() if len(counts) == 1 else ", ".join(f"{name}={value}" for name, value in found.items())


def swapped(recipe: Recipe, ingredients: Sequence[Ingredient], source: Recipe) -> Recipe:
    """`recipe` with these ingredients as `source` has them."""
    for one in ingredients:
        recipe = _swapped(recipe, one, source)
    return recipe


def _swapped(recipe: Recipe, one: Ingredient, source: Recipe) -> Recipe:
    match one.kind:
        case "threads":
            return replace(recipe, settings=_settings(recipe, THREADS, source))
        case "kernel" | "setting":
            return replace(recipe, settings=_settings(recipe, (one.name,), source))
        case "command":
            return replace(recipe, command=source.command)
        case "code":
            return replace(recipe, code=source.code)
        case "data":
            return replace(recipe, data=source.data)
        case "python":
            return replace(recipe, environment=replace(recipe.environment, python=source.environment.python))
        case _:
            return replace(recipe, environment=_with_package(recipe.environment, one.name, source.environment))


def _settings(recipe: Recipe, names: Sequence[str], source: Recipe) -> dict[str, str]:
    kept = {name: value for name, value in recipe.settings.items() if name not in names}
    return kept | {name: source.settings[name] for name in names if name in source.settings}


def _with_package(environment: Environment, name: str, source: Environment) -> Environment:
    others = [one for one in environment.distributions if one.name != name]
    taken = [one for one in source.distributions if one.name == name]
    return replace(environment, distributions=tuple(sorted((*others, *taken), key=lambda one: one.name)))
