"""Which ingredient moved the result: found by repeating the run with one ingredient exchanged at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from modelyard.bundle.layout import Bundle
from modelyard.domain.reproduction import Explanation, Ingredient, Trial
from modelyard.errors import ModelyardError
from modelyard.reproduction.recipe import THREADS, Recipe, differences, swapped
from modelyard.reproduction.rerun import Again, Kitchen
from modelyard.reproduction.result import Result, between, result_of

OnTrial: TypeAlias = Callable[[Trial], None]
"""Gets each trial as soon as it is over."""

_ONE_BY_ONE = 3
"""So many packages are tried each for itself at once; of more, first all together."""

_HASHES = Ingredient("randomness", "order of sets of texts", evidence="with PYTHONHASHSEED=0 it is the same each time")
_RACE = Ingredient("threads", "order in which threads add up", evidence="with one thread it is the same each time")


@dataclass(slots=True)
class Explainer:
    """The trials on one reproduction that did not come out bit-equal.

    `original` is what it was compared with, made by the recipe `then`; `now` is the recipe of the reproduction, and
    `first` what came of it, `place` which of the versions that it packed.
    """

    kitchen: Kitchen
    original: Bundle
    place: str
    then: Recipe
    now: Recipe
    again: Again
    first: Bundle
    tell: OnTrial
    trials: list[Trial] = field(default_factory=list)
    cooked: int = 0

    def explain(self) -> Explanation:
        """Carry out the trials and say what they show."""
        repeated = self._try("the same once more", None, self.now)
        if repeated.verdict == "failed":
            return self._found((), f"it could not be repeated: {repeated.reason}")
        if repeated.moved:
            return self._restless()
        found = differences(self.then, self.now)
        causes = self._moving(found)
        return self._found(causes, self._said(causes, found))

    def _restless(self) -> Explanation:
        """It comes out otherwise each time: by the order of hashes, by that of threads, or by a source of chance."""
        hashes = replace(self.now, settings={**self.now.settings, "PYTHONHASHSEED": "0"})
        single = replace(self.now, settings={**self.now.settings, **dict.fromkeys(THREADS, "1")})
        for ingredient, recipe, name in ((_HASHES, hashes, "PYTHONHASHSEED=0"), (_RACE, single, "one thread")):
            if recipe != self.now and self._is_steady(name, ingredient, recipe):
                return self._found((ingredient,), f"it comes out otherwise each time: by the {ingredient.name}")
        seen = [f"{name} was {said}" for name, said in self.again.run.seeds.items() if "not seeded" in said]
        evidence = "; ".join(["repeated as it was, it came out otherwise", *seen])
        cause = Ingredient("randomness", "a source of chance without a seed, or the time", evidence=evidence)
        return self._found((cause,), f"it comes out otherwise each time: by {cause.name}")

    def _is_steady(self, name: str, ingredient: Ingredient, recipe: Recipe) -> bool:
        """Whether two runs of `recipe` come out the same."""
        started = time.perf_counter()
        one = self._cooked(recipe, f"{name}, first time")
        two = self._cooked(recipe, f"{name}, second time") if one.bundle is not None else one
        if one.bundle is None or two.bundle is None:
            self._keep(f"with {name}, twice", ingredient, two, moved=False, seconds=time.perf_counter() - started)
            return False
        both = between(one.bundle, two.bundle, self.again.python)
        steady = both.verdict == "bit-equal"
        what = f"with {name}, twice: {'the same' if steady else 'not the same'}"
        self._keep(what, ingredient, two, moved=not steady, seconds=time.perf_counter() - started)
        return steady

    def _moving(self, found: Sequence[Ingredient]) -> tuple[Ingredient, ...]:
        """Those that move the result when they alone are as in the original; all together, where none does alone."""
        packages = [one for one in found if one.kind == "package"]
        if len(packages) > _ONE_BY_ONE:
            together = Ingredient("package", f"all {len(packages)} packages that differ")
            restored = swapped(self.now, packages, self.then)
            if not self._try(f"{together.name} as in the original", together, restored).moved:
                found = [one for one in found if one.kind != "package"]
        moving = tuple(
            one
            for one in found
            if self._try(f"{_named(one)} as in the original", one, swapped(self.now, [one], self.then)).moved
        )
        if moving or len(found) < 2:
            return moving
        return tuple(found) if self._try("all of these as in the original", None, self.then).moved else ()

    def _try(self, what: str, ingredient: Ingredient | None, recipe: Recipe) -> Trial:
        started = time.perf_counter()
        result = self._cooked(recipe, what)
        moved = False
        if result.bundle is not None:
            moved = between(self.first, result.bundle, self.again.python).verdict != "bit-equal"
        return self._keep(what, ingredient, result, moved=moved, seconds=time.perf_counter() - started)

    def _cooked(self, recipe: Recipe, what: str) -> Result:
        say = self.kitchen.say
        kitchen = replace(self.kitchen, say=lambda words: say(f"{what}: {words}"))
        self.cooked += 1
        try:
            again = kitchen.cook(recipe, f"trial-{self.cooked}")
        except ModelyardError as error:
            return Result("failed", str(error))
        return result_of(self.original, again, self.place)

    def _keep(self, what: str, ingredient: Ingredient | None, result: Result, *, moved: bool, seconds: float) -> Trial:
        answers = result.answers
        if result.bundle is not None:
            self.kitchen.clear()
        trial = Trial(
            what=what,
            ingredient=ingredient,
            verdict=result.verdict,
            moved=moved,
            largest_abs=0.0 if answers is None else answers.largest_abs,
            flips=0 if answers is None else answers.flips,
            seconds=seconds,
            reason=result.reason,
        )
        self.trials.append(trial)
        self.tell(trial)
        return trial

    def _found(self, causes: tuple[Ingredient, ...], said: str) -> Explanation:
        return Explanation(causes, said, tuple(self.trials))

    def _said(self, causes: Sequence[Ingredient], found: Sequence[Ingredient]) -> str:
        if not found:
            return (
                "it comes out the same each time here, and nothing that can be exchanged differs from the original: "
                "what remains is this machine, or what the record does not hold"
            )
        untried = [trial.what for trial in self.trials if trial.verdict == "failed"]
        if not causes and untried:
            return f"nothing that could be tried moved the result; not to be tried here: {'; '.join(untried)}"
        if not causes:
            return f"none of the {len(found)} ingredients that differ moved the result: this machine did, or other data"
        whole = any(trial.verdict == "bit-equal" for trial in self.trials)
        names = ", ".join(_named(one) for one in causes)
        return f"{names} moved the result" + ("" if whole else ", but is not all: no exchange made it bit-equal")


def _named(one: Ingredient) -> str:
    """The ingredient in a few words.

    >>> _named(Ingredient("package", "scikit-learn", "1.5.2", "1.6.0")), _named(Ingredient("code", ""))
    ('package scikit-learn', 'code')
    """
    return one.kind if one.name in ("", one.kind) else f"{one.kind} {one.name}"
