"""In what two recorded runs differ: candidates for why their results do, each with what it is known from."""

from __future__ import annotations

from collections.abc import Iterator

from modelyard.domain.reproduction import Ingredient, MetricPair
from modelyard.domain.run import Run
from modelyard.reproduction.recipe import KERNELS, THREADS, packages


def differences(before: Run, after: Run) -> tuple[Ingredient, ...]:
    """The ingredients in which the records of two runs differ, and sources of randomness that were not seeded.

    Packages that only one of the runs loaded are passed over: they did no work in the other.
    """
    return (*_environment(before, after), *_machine(before, after), *_data(before, after), *_sources(after))


def _environment(before: Run, after: Run) -> Iterator[Ingredient]:
    old, new = before.environment, after.environment
    if old is None or new is None:
        return
    if old.python != new.python:
        yield Ingredient("python", "", old.python, new.python)
    yield from (one for one in packages(old, new) if one.before and one.after)
    for pool in sorted(old.threads.keys() & new.threads.keys()):
        if old.threads[pool] != new.threads[pool]:
            yield Ingredient("threads", pool, str(old.threads[pool]), str(new.threads[pool]))
    if old.blas and new.blas and old.blas != new.blas:
        yield Ingredient("kernel", "", old.blas, new.blas)


def _machine(before: Run, after: Run) -> Iterator[Ingredient]:
    if before.machine.processor != after.machine.processor:
        yield Ingredient("processor", "", before.machine.processor, after.machine.processor)
    gone = sorted(set(before.machine.features) - set(after.machine.features))
    new = sorted(set(after.machine.features) - set(before.machine.features))
    if gone or new:
        said = [f"without {' '.join(gone)}"] if gone else []
        said += [f"with {' '.join(new)}"] if new else []
        yield Ingredient("processor", "processor features", "", "", ", ".join(said))
    for name in sorted((before.settings.keys() | after.settings.keys()) - _told_otherwise(before, after)):
        values = before.settings.get(name, ""), after.settings.get(name, "")
        if values[0] != values[1]:
            yield Ingredient("setting", name, *values)


def _told_otherwise(before: Run, after: Run) -> frozenset[str]:
    """Variables whose effect is known and compared itself: sizes of thread pools, and the kernel in use."""
    old, new = before.environment, after.environment
    if old is None or new is None or not (old.threads and new.threads):
        return frozenset()
    return frozenset(THREADS) | (frozenset(KERNELS) if old.blas and new.blas else frozenset())


def _data(before: Run, after: Run) -> Iterator[Ingredient]:
    if set(before.data.versions) != set(after.data.versions):
        yield Ingredient("data", "", ", ".join(before.data.versions), ", ".join(after.data.versions))
    if after.data.other_files:
        said = "these files are of no version, so that they may be others than they were"
        yield Ingredient("data", ", ".join(after.data.others[:5]), evidence=said)
    for why in after.data.unseen:
        yield Ingredient("data", "", evidence=f"what it read was not seen whole: {why}")


def _sources(run: Run) -> Iterator[Ingredient]:
    """What may come out otherwise each time, by what the process said of itself."""
    for name, said in run.seeds.items():
        if name == "hashes" and said == "random":
            yield Ingredient("randomness", "order of sets of texts", evidence="PYTHONHASHSEED is not set")
        elif "not seeded" in said:
            yield Ingredient("randomness", f"{name}", evidence=f"the shared source {name} was {said}")


def metric_pairs(before: Run, after: Run) -> tuple[MetricPair, ...]:
    """The last values of all metrics of both runs, by name."""
    names = dict.fromkeys((*before.metrics, *after.metrics))
    return tuple(
        MetricPair(
            name,
            before.metrics[name].last if name in before.metrics else None,
            after.metrics[name].last if name in after.metrics else None,
        )
        for name in names
    )
