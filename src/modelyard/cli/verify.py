"""Parity from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from modelyard.cli.output import Json, TrustCode, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.domain.parity import ParityReport, StageReport
    from modelyard.registry import Registry, Version

app = typer.Typer()


@app.command()
def verify(
    ref: Annotated[str, typer.Argument(metavar="NAME@V|BUNDLE", help="A version, or the path of a bundle's folder.")],
    what_if: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PKG==VERSION", help="What if this package were another version? Not a proof."),
    ] = None,
    vault: Annotated[
        bool, typer.Option("--vault", help="Keep the wheels of its environment first, as modelyard vault add does.")
    ] = False,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Prove a version: rebuild its environment, start it as production would, and compare with training's answers.

    The report is kept with the version; a version without a passing one cannot be deployed. Exit status 1 if anything
    differs.

    Example: modelyard verify flights-delay@3
    """
    with reported_errors(as_json):
        report = _verify(ref, tuple(what_if or ()), trust_code, quiet=as_json, vault=vault)
        emit(report, as_json, lambda: _print_verdict(report))
    if not report.passed:
        raise typer.Exit(1)


def _verify(ref: str, overrides: tuple[str, ...], trust_code: bool, *, quiet: bool, vault: bool) -> ParityReport:
    from modelyard.home import Home
    from modelyard.verification import verify as run

    home = Home.locate()
    with err.status("opening", spinner="line") as status:

        def say(words: str) -> None:
            status.update(escape(words))

        def tell(report: StageReport) -> None:
            if not quiet:
                _print_stage(report)

        shared: dict[str, Any] = {"home": home, "overrides": overrides, "progress": say, "on_stage": tell}
        from modelyard.finding import names_folder
        from modelyard.registry import Registry

        with Registry.open(home) as registry:
            if names_folder(ref):
                _require_trust(Path(ref), registry, trust_code)
                return run(Path(ref), ref, **shared)
            version = registry.version(ref)
            _wheels(registry, version, vault, say)
            report = run(registry.folder(version.digest), version.ref, digest=version.digest, **shared)
            registry.add_report(version, report)
            return report


def _wheels(registry: Registry, version: Version, vault: bool, say: Callable[[str], None]) -> None:
    """Have those that are kept of the version at hand; keep them first if that is asked for."""
    from modelyard.cli.registry import user
    from modelyard.registry.datasets import Datasets
    from modelyard.vault.keeping import bring, keep

    datasets = Datasets(registry.home, registry.database)
    try:
        if vault:
            keep(registry, datasets, version, by=user(), progress=say)
        bring(registry, datasets, version)
    finally:
        datasets.close()


def _require_trust(folder: Path, registry: Registry, trust_code: bool) -> None:
    """Refuse foreign code before it runs; what is wrong with the folder itself is for the report to say."""
    from modelyard.bundle.layout import open_bundle
    from modelyard.bundle.trust import require_trust
    from modelyard.errors import BundleRefused

    try:
        bundle = open_bundle(folder)
    except BundleRefused:
        return
    require_trust(bundle.manifest, trusted=trust_code or registry.holds(bundle.digest))


_COUNTED = {"integrity": "golden rows", "environment": "distributions"}


def _print_stage(report: StageReport) -> None:
    mark = "[green]same[/]  " if report.passed else "[bold red]differs[/]"
    out.print(f"{report.stage:<12} {mark:<8} [dim]{report.seconds:5.1f} s[/]  {_figures(report)}")
    if report.reason:
        out.print(f"    [red]{escape(report.reason)}[/]")
    for mismatch in report.mismatches[1:]:
        from modelyard.domain.compare import describe

        out.print(f"    {escape(describe(mismatch))}")
    for note in report.notes:
        out.print(f"    [yellow]note:[/] {escape(note)}")


def _figures(report: StageReport) -> str:
    if report.stage in _COUNTED:
        return f"{report.rows} {_COUNTED[report.stage]}" if report.rows else ""
    parts = [f"{report.rows} answers", f"largest error {report.largest_abs:.1e}", f"{report.largest_ulp} ULP"]
    parts += [f"{report.flips} labels flipped ({report.excused} within rounding)"] if report.flips else []
    parts += [f"{report.refused} refused as in training"] if report.refused else []
    return ", ".join(parts)


def _print_verdict(report: ParityReport) -> None:
    facts = ", ".join(f"{report.facts[name]}" for name in ("cpu", "platform") if name in report.facts)
    if facts:
        out.print(f"[dim]on {escape(facts)}[/]")
    if report.overrides:
        answer = "gives the same answers" if report.passed else "does NOT give the same answers"
        out.print(
            f"{escape(report.ref)} {answer} with {escape(', '.join(report.overrides))}; a what-if run, not a proof"
        )
    elif report.passed:
        out.print(f"[bold green]{escape(report.ref)} is proven[/]: it answers as training did, wherever it was asked")
    else:
        failed = ", ".join(stage.stage for stage in report.stages if not stage.passed)
        out.print(f"[bold red]{escape(report.ref)} is not proven[/]: {failed}")
