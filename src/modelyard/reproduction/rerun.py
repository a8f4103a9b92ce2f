"""One run carried out again, in a folder and a home of its own: what it packs is compared, and registered nowhere."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from modelyard.bundle import environment
from modelyard.bundle.layout import Bundle
from modelyard.domain.names import Ref
from modelyard.domain.run import Run
from modelyard.errors import Failed
from modelyard.home import Home
from modelyard.mlflow.alongside import MlflowAlongside
from modelyard.registry import Registry
from modelyard.registry.registry import AliasChange
from modelyard.reproduction import surroundings
from modelyard.reproduction.recipe import Recipe
from modelyard.reproduction.restoring import Kept, Restored, kept_of, restore, versions_needed
from modelyard.runs.beginning import Within
from modelyard.runs.program import train
from modelyard.runs.yard import Yard, opened

Say: TypeAlias = Callable[[str], None]
"""Is told in a few words what is being done, and what the program prints."""

_TAIL = 20


@dataclass(frozen=True, slots=True)
class Again:
    """What came of a repeated run. `bundles` are the versions that it packed, by name, while the work folder lasts."""

    run: Run
    bundles: dict[str, Bundle]
    python: Path
    restored: Restored
    notes: tuple[str, ...]
    last_words: str

    @property
    def failure(self) -> str:
        """Why there is nothing to compare; empty where there is."""
        outcome = self.run.outcome
        if outcome.state != "finished":
            said = f": {self.last_words}" if self.last_words else ""
            return f"the program {outcome.state} with exit code {outcome.exit_code}{said}"
        return "" if self.bundles else "the program ended well, but packed nothing"


@dataclass(frozen=True, slots=True)
class Kitchen:
    """Where runs are repeated: the registry they are taken from, and a folder for all that is made on the way.

    `seconds` is how long one run may take; with `keeps`, nothing is cleared away.
    """

    yard: Yard
    registry: Registry
    work: Path
    seconds: float | None
    say: Say
    keeps: bool = False

    def clear(self) -> None:
        """Remove what trials have made, which is compared by now."""
        if not self.keeps:
            for folder in self.work.glob("trial-*"):
                shutil.rmtree(folder, ignore_errors=True)

    def kept(self, run_id: str) -> Kept:
        """A run and its files, checked out once."""
        folder = self.work / "kept" / run_id
        if folder.exists():
            shutil.rmtree(folder)
        return kept_of(self.yard, run_id, folder)

    def prepare(self, recipe: Recipe) -> Path:
        """The interpreter of the recipe's environment, rebuilt if it is not there yet.

        Raises:
            EnvironmentFailed: a distribution or the Python cannot be had here.
        """
        wanted = recipe.environment
        if not surroundings.can_lend(wanted):
            wanted = surroundings.with_tools(wanted)
        self.say(f"rebuilding the environment: Python {wanted.python}, {len(wanted.distributions)} distributions")
        is_new = not environment.place_of(wanted, self.yard.home).exists()
        python = environment.cached(wanted, self.yard.home, progress=self.say)
        if is_new:
            environment.lend_bytecode(python.parent.parent)
        return python

    def cook(self, recipe: Recipe, name: str) -> Again:
        """Carry out `recipe` in the new folder `name`.

        Raises:
            Failed: code or environment cannot be had; see `restore` and `prepare`.
            InvalidRequest: the command cannot be run again as it is recorded.
        """
        place = self.work / name
        python = self.prepare(recipe)
        self.say("checking out code and data")
        code = self.kept(recipe.code)
        data = code if recipe.data == recipe.code else self.kept(recipe.data)
        restored = restore(code, data, self.yard.datasets, place / "code")
        home = Home(place / "home").create()
        self._lend_data(data.run, home)
        self._lend_models(code.run, home)
        lent = surroundings.lend(recipe.environment, python, place / "tools")
        paths = surroundings.module_paths(restored.root, code.run.code.sources, lent)
        state = code.run.code
        words = surroundings.command(recipe.command, python, state.place, restored.root)
        environ = surroundings.environ(python, recipe.settings, paths, place)
        within = Within(restored.folder, environ, self.seconds)
        self.say(f"running {' '.join(recipe.command)}")
        heard = _Heard(self.say)
        declared = tuple(data.run.data.declared)
        also = (MlflowAlongside(environ, self.say),)
        done = train(
            words, streams=(heard, heard), name=code.run.name, data=declared, home=home, within=within, alongside=also
        )
        if done.record is None:
            raise Failed("what the repeated run did could not be recorded; see the message above")
        bundles = _bundles(done.record, home)
        notes = environment.differences(recipe.environment, python)
        return Again(_as_named(done.record, code.run), bundles, python, restored, notes, heard.last_words())

    def _lend_data(self, run: Run, home: Home) -> None:
        with opened(home) as own:
            for ref in versions_needed(run):
                self.yard.datasets.lend(ref, own.datasets)

    def _lend_models(self, run: Run, home: Home) -> None:
        """Versions that the program loaded, as one that goes on from an earlier model does, with aliases of then."""
        if not run.loaded:
            return
        with Registry.open(home) as own:
            for version in map(self.registry.version, run.loaded):
                own.register(self.registry.bundle(version), number=version.number)
                for alias, number in _aliases_at(self.registry.alias_history(version.model), run.started_at).items():
                    if number == version.number:
                        own.set_alias(version.model, alias, number)


def _aliases_at(history: Sequence[AliasChange], moment: datetime) -> dict[str, int | None]:
    """What each alias pointed at then."""
    return {change.alias: change.version for change in history if change.at <= moment}


def _as_named(again: Run, original: Run) -> Run:
    """The command as it was recorded: that it names another interpreter is no difference."""
    return replace(again, command=original.command)


def _bundles(run: Run, home: Home) -> dict[str, Bundle]:
    """What was packed, by model and place among the versions of that model: ``churn@1`` is its first."""
    found: dict[str, Bundle] = {}
    counts: dict[str, int] = {}
    with Registry.open(home) as registry:
        for ref in run.versions:
            model = Ref.parse(ref).model
            counts[model] = counts.get(model, 0) + 1
            found[f"{model}@{counts[model]}"] = registry.bundle(ref)
    return found


class _Heard(io.BytesIO):
    """Takes what a program prints: passes on its last line as progress, and keeps the last few for a message."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say
        self._lines: list[str] = []

    def write(self, raw: bytes) -> int:  # type: ignore[override]
        lines = [line.strip() for line in raw.decode("utf-8", "replace").splitlines() if line.strip()]
        self._lines = (self._lines + lines)[-_TAIL:]
        if lines:
            self._say(f"the program says: {lines[-1][:120]}")
        return len(raw)

    def last_words(self) -> str:
        """The last line that it printed."""
        return self._lines[-1] if self._lines else ""
