"""The front door of lineage, ``my.lineage``: what a thing was made from, and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from modelyard.domain.lineage import Direction, Edge, Graph, Node, walk
from modelyard.home import Home
from modelyard.provenance.asking import Asking
from modelyard.provenance.gathering import Gathering
from modelyard.registry import Datasets, Registry
from modelyard.registry.links import Links

__all__ = ["Edge", "Graph", "Node", "lineage"]


def lineage(
    ref: str,
    *,
    direction: Literal["up", "down", "both"] = "both",
    depth: int | None = None,
    most: int = 8,
    records: str | Path | None = None,
    home: str | Path | Home | None = None,
) -> Graph:
    """What `ref` was made from and what became of it: data, code, runs, versions, deployments and predictions.

    Args:
        ref: A version of a model or of data (``flights-delay@3``, ``flights-delay@champion``, ``flights@2``), the id or
            name of a run, a deployment, or a prediction id. Where a name could be several of these, say which:
            ``model:flights@2``, ``data:flights@2``, ``run:…``, ``code:COMMIT``, ``deployment:…``, ``prediction:…``.
        direction: ``up`` is to what it was made from, ``down`` to what was made of it.
        depth: How many steps to go; without it, to the end.
        most: Of many runs next to one thing so many are shown, those that made what is deployed before others and then
            the newest; a node says how many more there are.
        records: The folder of prediction records, if it is not the home's.
        home: Where the registry is; see `Home.locate`.

    Returns:
        Nodes and edges, from what was there first to what was made of it.

    Raises:
        NotFound: there is no such thing.
        InvalidRequest: a model and a dataset have that name.
    """
    place = Home.locate(home)
    folder = place.records if records is None else Path(records)
    with Registry.open(place) as registry:
        datasets = Datasets(registry.home, registry.database)
        try:
            found = Asking(registry, datasets, folder).start(ref)
        finally:
            datasets.close()
        ways: tuple[Direction, ...] = ("up", "down") if direction == "both" else (direction,)
        with Links(registry.database).at_one_moment() as links:
            gathering = Gathering(links, folder, most)
            return walk(gathering.start(found), gathering.look, ways, depth)
