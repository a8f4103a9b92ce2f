"""Keeping the wheels of environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.registry.vaults import Vault
    from modelyard.vault.keeping import Kept

app = typer.Typer()
vault_app = typer.Typer(help="Wheels of versions' environments: add, show.", no_args_is_help=True)
app.add_typer(vault_app, name="vault")

Ref = Annotated[str, typer.Argument(metavar="NAME@V")]


@vault_app.callback()
def _vault() -> None:
    """Wheels of versions' environments, kept so that these can be rebuilt when no index has them any more."""


@vault_app.command()
def add(ref: Ref, as_json: Json = False) -> None:
    """Keep the wheels of a version's environment, and of its run's, checked against the digests written down.

    They are fetched from the indexes that this machine is set up with. Exit status 1 if some cannot be had.

    Example: modelyard vault add flights-delay@3
    """
    from modelyard.cli.collecting import size

    with reported_errors(as_json):
        kept = keep_wheels(ref)
        said = f"{size(kept.stored_bytes)} of it stored now"
        document = {**_facts(kept.version.ref, kept.vault), "stored_bytes": kept.stored_bytes}
        emit(document, as_json, lambda: _print(kept.version.ref, kept.vault, said))
    if kept.vault.left_out:
        raise typer.Exit(1)


@vault_app.command()
def show(ref: Ref, as_json: Json = False) -> None:
    """What is kept of a version's environment, and what is not.

    Example: modelyard vault show flights-delay@3
    """
    from modelyard.errors import NotFound
    from modelyard.registry import Registry
    from modelyard.registry.vaults import Vaults

    with reported_errors(as_json), Registry.open() as registry:
        version = registry.version(ref)
        vault = Vaults(registry.database).of(version)
        if vault is None:
            raise NotFound(f"no wheels of {version.ref} are kept: modelyard vault add {version.ref}")
        found, said = vault, f"kept by {vault.by or 'unknown'}"
        emit(_facts(version.ref, found), as_json, lambda: _print(version.ref, found, said))


def keep_wheels(ref: str) -> Kept:
    """Keep the wheels of the version that `ref` names, and show on standard error how far that is.

    Raises:
        ModelyardError: there is no such version, or its wheels cannot be stored.
    """
    from modelyard.cli.registry import user
    from modelyard.registry import Registry
    from modelyard.registry.datasets import Datasets
    from modelyard.vault.keeping import keep

    with Registry.open() as registry:
        datasets = Datasets(registry.home, registry.database)
        try:
            with err.status("looking", spinner="dots") as status:
                version = registry.version(ref)
                return keep(registry, datasets, version, by=user(), progress=lambda words: status.update(escape(words)))
        finally:
            datasets.close()


def _facts(ref: str, vault: Vault) -> dict[str, Any]:
    return {
        "ref": ref,
        "digest": vault.digest,
        "wheels": vault.wheels,
        "bytes": vault.size,
        "left_out": vault.left_out,
        "by": vault.by,
        "at": vault.at,
    }


def _print(ref: str, vault: Vault, said: str) -> None:
    from modelyard.cli.collecting import size

    out.print(f"{vault.wheels} wheels of {ref} are kept, {size(vault.size)}; {said}", markup=False)
    for pin, why in vault.left_out.items():
        out.print(f"not kept: {pin}: {why}", markup=False)
