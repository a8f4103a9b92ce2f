"""Lineage: what a thing was made from, and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelyard.cli.output import Json, emit, out, reported_errors

if TYPE_CHECKING:
    from modelyard.domain.lineage import Graph

app = typer.Typer()


@app.callback()
def _lineage() -> None:
    """Lineage."""


@app.command()
def lineage(
    ref: Annotated[str, typer.Argument(help="NAME@V of a model or of data, a run, a deployment, a prediction id.")],
    up: Annotated[bool, typer.Option("--up", help="Only what it was made from.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what became of it.")] = False,
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="At most so many steps away.")] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Of many runs next to one thing, show so many.")] = 8,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with a picture, which needs nothing else."),
    ] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture alone.")] = None,
    records: Annotated[
        Path | None, typer.Option("--records", metavar="DIR", help="The records folder, if it is not the home's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What something was made from and what became of it: data, code, runs, versions, deployments, predictions.

    A name that could be several things takes a word before it: model:flights@2, data:flights@2, run:ID, code:COMMIT,
    deployment:NAME, prediction:ID.

    Example: modelyard lineage flights-delay@3

    Example: modelyard lineage data:flights@2 --down --html flights.html

    Example: modelyard lineage prediction:5f0c21 --up --json
    """
    from modelyard.tracing import lineage as find

    with reported_errors(as_json):
        way: Literal["both", "up", "down"] = "both" if up == down else "up" if up else "down"
        graph = find(ref, direction=way, depth=depth, most=most, records=records)
        for file, form in ((svg, "svg"), (html, "html")):
            if file is not None:
                _draw(graph, file, form)
        emit(_document(graph), as_json, lambda: _print(graph))


def _document(graph: Graph) -> dict[str, Any]:
    nodes = [
        {"id": node.id, "kind": node.kind, "key": node.key, "label": node.label, "at": node.at, "facts": node.facts}
        for node in graph.nodes
    ]
    return {"start": graph.start, "nodes": nodes, "edges": graph.edges}


def _print(graph: Graph) -> None:
    from modelyard.provenance.text import lines

    for line in lines(graph):
        out.print(line, markup=False)


def _draw(graph: Graph, file: Path, form: str) -> None:
    from modelyard.errors import Failed
    from modelyard.provenance import picture

    try:
        file.write_text(picture.page(graph) if form == "html" else picture.svg(graph), "utf-8")
    except OSError as error:
        raise Failed(f"{file} cannot be written: {error.strerror}") from error
