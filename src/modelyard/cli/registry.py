"""Models, versions and aliases; bundles in and out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, out, reported_errors

if TYPE_CHECKING:
    from modelyard.domain.removal import Removal
    from modelyard.registry import Registry, Version
    from modelyard.registry.search import ModelLine, Sought

app = typer.Typer()

_A_FILE = "an exported file"
"""What a home is called in a file, whose bytes depend on what is in it and on nothing else."""

SHOWN_CHANGES = 10
"""Changes of aliases that are shown unless all are asked for."""


@app.command("list")
def list_(
    model: Annotated[str | None, typer.Argument(help="Only this model, version by version.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="NAME>0.8", help="By a metric or parameter of the run that made it."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="By a tag, also of its run.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="NAME[@V]", help="Trained on this dataset.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Made by this run.")] = None,
    alias: Annotated[str | None, typer.Option("--alias", help="That this alias points at.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Registered since then.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Registered before then.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    after: Annotated[str, typer.Option("--after", metavar="NAME", help="Of models: those after this one.")] = "",
    as_json: Json = False,
) -> None:
    """Models; or versions, newest first: those of one model, or those that fulfil all that is asked for.

    Example: modelyard list flights-delay

    Example: modelyard list --where "auc>0.8" --where depth=6 --tag season=winter --data flights@2 --since 2026-01-01
    """
    from modelyard.registry.search import list_models, search

    with reported_errors(as_json), _registry() as registry:
        asked = (model, where, tag, data, run, alias, since, until)
        if all(each is None or each == [] for each in asked):
            models, more = list_models(registry.database, limit, after)
            document: dict[str, Any] = {"models": models, "more": more}
            emit(document, as_json, lambda: _print_models(models, more))
            return
        if model is not None:
            registry.version(model)  # says what there is, where there is no such model
        page = search(registry.database, _sought(registry, *asked, limit))
        rows = [{"ref": line.ref, **asdict(line)} for line in page.lines]
        gone = () if model is None else registry.removed(model)
        document = {"versions": rows, "more": page.more, **({} if model is None else {"model": model, "removed": gone})}
        emit(document, as_json, lambda: _print_versions(rows, gone, page.more))


@app.command()
def show(
    ref: Annotated[str, typer.Argument(metavar="NAME[@V]", help="NAME, NAME@3 or NAME@champion.")],
    as_json: Json = False,
) -> None:
    """One model or version in full.

    Example: modelyard show flights-delay@3
    """
    from modelyard.cli.cards import print_model, print_version

    with reported_errors(as_json), _registry() as registry:
        if "@" in ref:
            document = _describe_version(registry, registry.version(ref))
            emit(document, as_json, lambda: print_version(document))
        else:
            described = _describe_model(registry, ref)
            emit(described, as_json, lambda: print_model(described))


@app.command()
def alias(
    model: Annotated[str, typer.Argument(metavar="NAME")],
    name: Annotated[str | None, typer.Argument(metavar="ALIAS")] = None,
    version: Annotated[int | None, typer.Argument(metavar="V", help="The version to point at.")] = None,
    why: Annotated[str, typer.Option("--why", help="The reason, kept in the history.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the alias away.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Show every change, not only the newest.")] = False,
    as_json: Json = False,
) -> None:
    """Point an alias at a version; without a version, show aliases and their history.

    What an alias pointed at on some day: modelyard history NAME@ALIAS --at DAY.

    Example: modelyard alias flights-delay champion 3 --why "better AUC on March"

    Example: modelyard alias flights-delay champion --history
    """
    with reported_errors(as_json), _registry() as registry:
        if name is not None and remove:
            change: Any = registry.remove_alias(model, name, by=user(), why=why)
        elif name is not None and version is not None:
            change = registry.set_alias(model, name, version, by=user(), why=why)
        else:
            known, changes = registry.aliases(model), registry.alias_history(model)
            past = [change for change in changes if name in (None, change.alias)]
            shown = {key: value for key, value in known.items() if name in (None, key)}
            document = {"model": model, "aliases": shown, "history": past}
            emit(document, as_json, lambda: _print_aliases(model, shown, past if history else past[-SHOWN_CHANGES:]))
            if len(past) > SHOWN_CHANGES and not history and not as_json:
                out.print(f"{len(past) - SHOWN_CHANGES} earlier changes: --history")
            return
        emit(change, as_json, lambda: out.print(_alias_line(model, change)))


@app.command()
def export(
    ref: Annotated[str, typer.Argument(metavar="NAME@V")],
    file: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="Where to write it.")],
    form: Annotated[
        str, typer.Option("--format", help="bundle: one file for Modelyard; mlflow: a model directory for MLflow.")
    ] = "bundle",
    everything: Annotated[
        bool, typer.Option("--all", "--with-data", help="With its run, code, data, reports: all that it needs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a version's bundle as one file (the same version gives the same bytes), or as an MLflow model directory.

    With --all the file holds all that the version needs, as push would bring it, for machines with no connection; REF
    may then be data:NAME@V or run:ID too.

    Example: modelyard export flights-delay@3 flights-delay-3.zip

    Example: modelyard export flights-delay@3 flights-delay-3.yard --all

    Example: modelyard export flights-delay@3 flights-delay-mlflow --format mlflow
    """
    if form not in ("bundle", "mlflow"):
        raise typer.BadParameter("there are the formats bundle and mlflow")
    if everything:
        _export_all(ref, file, as_json)
        return
    with reported_errors(as_json), _registry() as registry:
        version = registry.version(ref)
        write = _write_mlflow if form == "mlflow" else _write_bundle
        written, said = write(registry, version, file)
        document = {"ref": version.ref, "digest": version.digest, "file": str(file), "format": form, **written}
        emit(document, as_json, lambda: out.print(f"{version.ref} is in {file} ({said})", markup=False))


def _export_all(ref: str, file: Path, as_json: bool) -> None:
    from modelyard.cli.exchange import progress
    from modelyard.domain.names import Named
    from modelyard.exchange.file import export as write
    from modelyard.exchange.side import opened
    from modelyard.home import Home

    with reported_errors(as_json), opened(Home.locate(), _A_FILE) as side:
        with progress(as_json) as tell:
            parcel, size = write(side, [Named.parse(ref)], file, tell)
        held = [*(each.ref for each in parcel.models), *(f"run:{each.run.id}" for each in parcel.runs)]
        held += [f"data:{each.ref}" for each in parcel.data]
        document = {"ref": ref, "file": str(file), "format": "all", "bytes": size, "holds": held}
        emit(document, as_json, lambda: out.print(f"{', '.join(held)} in {file} ({size:,} bytes)", markup=False))


def _write_bundle(registry: Registry, version: Version, file: Path) -> tuple[dict[str, Any], str]:
    from modelyard.bundle.archive import export_file

    size = export_file(registry.bundle(version), file).stat().st_size
    return {"bytes": size}, f"{size:,} bytes"


def _write_mlflow(registry: Registry, version: Version, folder: Path) -> tuple[dict[str, Any], str]:
    from modelyard.mlflow.exporting import export_directory

    done = export_directory(registry.bundle(version), version.ref, folder, home=registry.home)
    return {"flavours": done.flavours}, f"MLflow flavours {', '.join(done.flavours)}"


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="FILE|DIR", exists=True, help="An exported bundle, or its folder.")],
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Take a bundle whose model runs code of its own when it is loaded.")
    ] = False,
    aliases: Annotated[
        bool, typer.Option("--aliases", help="Of export --all: point aliases as they do there.")
    ] = False,
    although_removed: Annotated[
        bool, typer.Option("--although-removed", help="Of export --all: also what was removed here.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Register a bundle, or all that `export --all` wrote, from a file or folder, once every byte of it is checked.

    Example: modelyard import flights-delay-3.zip
    """
    import tempfile

    from modelyard.exchange.file import is_parcel

    if is_parcel(source):
        _import_all(source, trust_code, aliases, although_removed, as_json)
        return

    from modelyard.bundle.archive import import_file
    from modelyard.bundle.layout import open_bundle
    from modelyard.bundle.trust import require_trust

    with reported_errors(as_json), _registry() as registry:
        with tempfile.TemporaryDirectory(dir=registry.home.cache, prefix="import-") as folder:
            bundle = open_bundle(source) if source.is_dir() else import_file(source, Path(folder) / "bundle")
            require_trust(bundle.manifest, trusted=trust_code)
            version = registry.register(bundle)
        facts = _facts(registry, version)
        emit(facts, as_json, lambda: out.print(f"{version.ref} is registered; next: modelyard verify {version.ref}"))


def _import_all(source: Path, trust_code: bool, aliases: bool, although_removed: bool, as_json: bool) -> None:
    from modelyard.cli.exchange import print_arrivals, progress
    from modelyard.exchange.arriving import Terms
    from modelyard.exchange.file import import_ as read
    from modelyard.exchange.side import opened
    from modelyard.home import Home

    terms = Terms(user(), although_removed, aliases, with_findings=trust_code)
    with reported_errors(as_json), opened(Home.locate()) as side:
        with progress(as_json) as tell:
            parcel, arrivals = read(side, source, terms, trusted=trust_code, tell=tell)
        reports = sum(len(each.reports) + len(each.reproductions) for each in parcel.models)
        left = reports and not trust_code
        document = {"from": parcel.origin, "arrivals": arrivals, "reports_left_out": reports if left else 0}
        said = "its reports are not taken over without --trust-code: modelyard verify proves it here" if left else ""
        emit(document, as_json, lambda: print_arrivals(arrivals, said or "all of it is checked and here"))


def user() -> str:
    """Who is at the terminal, as far as the system says."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _registry() -> Registry:
    from modelyard.registry import Registry

    return Registry.open()


def _sought(
    registry: Registry,
    model: str | None,
    where: list[str] | None,
    tag: list[str] | None,
    data: str | None,
    run: str | None,
    alias: str | None,
    since: str | None,
    until: str | None,
    limit: int,
) -> Sought:
    from modelyard.cli.train import tags_of
    from modelyard.domain.timeline import moment_of
    from modelyard.registry.runs import Condition, Runs
    from modelyard.registry.search import Sought

    return Sought(
        model,
        tuple(Condition.parse(text) for text in where or ()),
        tags_of(tag),
        data,
        None if run is None else Runs(registry.database).run(run).id,
        alias,
        None if since is None else moment_of(since),
        None if until is None else moment_of(until),
        limit,
    )


def _facts(registry: Registry, version: Version) -> dict[str, Any]:
    pointing = [alias for alias, number in registry.aliases(version.model).items() if number == version.number]
    return {
        "ref": version.ref,
        "model": version.model,
        "number": version.number,
        "digest": version.digest,
        "created_at": version.created_at,
        "runtime": version.runtime,
        "proven": registry.proof(version) is not None,
        "aliases": pointing,
        "tags": dict(version.tags),
    }


def _describe_version(registry: Registry, version: Version) -> dict[str, Any]:
    from modelyard.registry.marks import Subject, marks_of
    from modelyard.registry.reproductions import Reproductions
    from modelyard.registry.runs import Runs

    manifest = registry.bundle(version).manifest
    marks = marks_of(registry.database, Subject("model", version.model, version.number))
    return {
        **_facts(registry, version),
        "tags": marks.in_force,
        "marks": marks,
        "path": str(version.path),
        "reports": registry.stored_reports(version),
        "reproductions": Reproductions(registry.database).of(version),
        "runs": Runs(registry.database).that_made(version.model, version.number),
        "manifest": manifest,
    }


def _describe_model(registry: Registry, name: str) -> dict[str, Any]:
    from modelyard.registry.search import Sought, search

    known = registry.aliases(name)
    page = search(registry.database, Sought(name))
    return {
        "model": name,
        "versions": [{"ref": line.ref, **asdict(line)} for line in page.lines],
        "more": page.more,
        "aliases": known,
        "alias_history": registry.alias_history(name),
        "removed": registry.removed(name),
    }


def _print_models(models: tuple[ModelLine, ...], more: bool) -> None:
    from modelyard.cli.cards import put, table

    if not models:
        out.print("no model is registered yet: pack one in Python with modelyard.pack(...), or modelyard import FILE")
        return
    rows = [
        [
            model.name,
            str(model.versions),
            f"{model.name}@{model.newest}",
            ", ".join(f"{alias}={number}" for alias, number in model.aliases.items()),
        ]
        for model in models
    ]
    put(table(["model", "versions", "newest", "aliases"], rows))
    if more:
        out.print(f"there are more: modelyard list --after {models[-1].name}, or --limit", markup=False)


def _print_versions(rows: list[dict[str, Any]], gone: tuple[Removal, ...], more: bool) -> None:
    from modelyard.cli.cards import put, versions_table

    if rows:
        put(versions_table(rows))
    elif not gone:
        out.print("no version is like that")
    if more:
        out.print(f"these are the newest {len(rows)}; --limit shows more", markup=False)
    for removal in gone:
        out.print(str(removal), markup=False)


def _alias_line(model: str, change: Any) -> str:
    target = "nothing" if change.version is None else f"{model}@{change.version}"
    before = "" if change.previous is None else f" (was {model}@{change.previous})"
    return f"{model}@{change.alias} points at {target}{before}"


def _print_aliases(model: str, known: dict[str, int], changes: list[Any]) -> None:
    from modelyard.cli.cards import moment, put, table

    if not changes:
        out.print(f"{model} has no such alias, and never had")
        return
    for name, number in known.items():
        out.print(f"{model}@{name} points at {model}@{number}")
    rows = [
        [moment(change.at), change.alias, _target(change.previous), _target(change.version), change.by, change.why]
        for change in changes
    ]
    put(table(["when", "alias", "from", "to", "by", "why"], rows))


def _target(number: int | None) -> str:
    return "-" if number is None else str(number)
