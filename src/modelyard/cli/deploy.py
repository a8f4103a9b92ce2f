"""What should answer, and what does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.control.deployments import Decision
    from modelyard.control.progress import Progress
    from modelyard.control.rehearsing import Rehearsal
    from modelyard.control.rollouts import Rollout
    from modelyard.control.watch import Served, Sighting
    from modelyard.home import Home
    from modelyard.rollout.policy import Policy

app = typer.Typer()

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the data plane has done it.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")]


@app.command()
def deploy(
    ref: Annotated[str, typer.Argument(metavar="NAME@V")],
    to: Annotated[str, typer.Option("--to", metavar="DEPLOYMENT", help="The name that clients call.")],
    strategy: Annotated[
        Literal["replace", "canary", "ab", "blue-green", "shadow"],
        typer.Option(
            "--strategy",
            help="replace: the new version takes over when it is ready. canary: it gets more calls step by step, by "
            "itself, as long as nothing shows harm, and none when something does. ab: it answers a share of the calls. "
            "blue-green: it answers all, and the old one stays ready. shadow: it computes what is asked, and nobody "
            "sees it. The last three go on until `modelyard promote` or `modelyard rollback`.",
        ),
    ] = "replace",
    share: Annotated[
        float | None,
        typer.Option("--share", help="With ab: which part of the calls it answers, 0 to 1; else 0.5."),
    ] = None,
    key: Annotated[
        str,
        typer.Option("--key", metavar="COLUMN", help="Calls with the same value of this input go to the same version."),
    ] = "",
    unproven: Annotated[
        str | None, typer.Option("--unproven", metavar="REASON", help="Deploy without a passing parity report.")
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option("--steps", metavar="SHARES", help="With canary: its steps, such as shadow,1%,5%,25%,100%."),
    ] = None,
    least: Annotated[
        str | None, typer.Option("--least", metavar="TIME", help="With canary: each step lasts so long at least: 5m.")
    ] = None,
    most: Annotated[
        str | None, typer.Option("--most", metavar="TIME", help="With canary: after so long a step is undecided: 1d.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME=MARGIN", help="With canary: how much worse is too much: errors=0.5%."),
    ] = None,
    undecided: Annotated[
        Literal["hold", "promote", "rollback"] | None,
        typer.Option("--undecided", help="With canary: what is done when a step is undecided; else hold."),
    ] = None,
    approver: Annotated[
        list[str] | None,
        typer.Option("--approver", metavar="NAME", help="With canary: has to approve before it answers everybody."),
    ] = None,
    project: Annotated[
        Path,
        typer.Option("--project", metavar="DIR", help="With canary: the folder whose modelyard.toml has the policy."),
    ] = Path(),
    wait: Wait = True,
    timeout: Timeout = 300.0,
    as_json: Json = False,
) -> None:
    """Put a version behind a deployment, once it is proven. The old version answers until the new one is ready.

    Example: modelyard deploy flights-delay@3 --to flights-delay

    Example: modelyard deploy flights-delay@4 --to flights-delay --strategy canary --least 10m
    """
    from modelyard.cli.registry import user
    from modelyard.control import deployments, rollouts
    from modelyard.registry import Registry

    said = {
        "steps": None if steps is None else [one.strip() for one in steps.split(",")],
        "least": least,
        "most": most,
        "metrics": metric,
        "undecided": undecided,
        "approvers": approver,
    }
    given = {name: value for name, value in said.items() if value}
    with reported_errors(as_json), Registry.open() as registry:
        _check_options(strategy, share, key, given)
        if strategy == "replace":
            decision = deployments.deploy(registry, ref, to, unproven, by=user())
        else:
            options: dict[str, Any] = {"share": share, "key": key, "override_reason": unproven, "by": user()}
            if strategy == "canary":
                options["policy"] = _policy(project, given)
            decision = rollouts.begin(registry, ref, to, strategy, **options).awaited()
        follow(registry.home, decision, strategy, wait, timeout, as_json)


def _check_options(strategy: str, share: float | None, key: str, given: dict[str, Any]) -> None:
    from modelyard.errors import InvalidRequest

    if strategy == "replace" and (share is not None or key):
        raise InvalidRequest("--share is for --strategy ab, and --key for canary, ab and blue-green")
    if strategy != "canary" and given:
        names = {"metrics": "metric", "approvers": "approver"}
        raise InvalidRequest(f"--{', --'.join(names.get(one, one) for one in given)}: only for --strategy canary")


def _policy(folder: Path, given: dict[str, Any]) -> Policy:
    """The policy of a project, with what options say instead."""
    from modelyard import project
    from modelyard.rollout.written import policy_of, table_of

    found = project.read(folder)
    said = dict(found.rollout) if found else {}
    if "metrics" in given:
        given = {**given, "metrics": table_of(given["metrics"])}
    where = f"{found.file} [rollout]" if found and found.rollout else "the policy"
    return policy_of({**said, **given}, where)


@app.command()
def undeploy(
    deployment: Annotated[str, typer.Argument()],
    wait: Wait = True,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Take a deployment away. Calls that are under way are answered; its history and records stay.

    Example: modelyard undeploy flights-delay
    """
    from modelyard.cli.registry import user
    from modelyard.control import deployments
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        decision = deployments.undeploy(registry, deployment, by=user())
        follow(registry.home, decision, "replace", wait, timeout, as_json)


@app.command()
def status(
    deployment: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    as_json: Json = False,
) -> None:
    """What is deployed, ready and why not. Exit status 1 if something asked for does not answer.

    Example: modelyard status flights-delay
    """
    from modelyard.control import deployments, rollouts
    from modelyard.control.progress import progress
    from modelyard.control.rehearsing import last_rehearsals
    from modelyard.errors import DeploymentNotFound
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        asked = deployments.in_force(registry)
        if deployment is not None:
            names = [decision.deployment for decision in asked]
            if deployment not in names:
                raise DeploymentNotFound(deployment, names)
            asked = tuple(decision for decision in asked if decision.deployment == deployment)
        open_ = {one.deployment: (one, progress(registry, one)) for one in rollouts.open_rollouts(registry)}
        document = _survey(registry.home, asked, open_)
        last = last_rehearsals(registry, [decision.deployment for decision in asked])
        for row in document["deployments"]:
            row["rehearsal"] = last.get(row["deployment"])
    emit(document, as_json, lambda: _print_survey(document))
    if not document["ok"]:
        raise typer.Exit(1)


def follow(home: Home, decision: Decision, strategy: str, wait: bool, timeout: float, as_json: bool) -> None:
    """Report a decision, and what became of it; exit status 1 if the data plane could not do it."""
    from modelyard.control.up import await_running, running
    from modelyard.control.watch import Progress, wait_until_done
    from modelyard.domain.desired import CANDIDATE

    there = await_running(home) if wait else running(home)
    if there is None:
        progress = Progress("waiting", "nothing runs on this home: `modelyard up` will carry it out")
    elif not wait:
        progress = Progress("waiting", "not waited for: see `modelyard status`")
    else:
        progress = wait_until_done(there.data.url, decision, timeout, lambda line: err.print(line, markup=False))
    name = decision.deployment.removesuffix(CANDIDATE)
    url = f"{there.data.url}/predict/{name}" if there and decision.version else None
    document = {
        "decision": decision,
        "strategy": strategy,
        "state": progress.state,
        "reason": progress.reason,
        "url": url,
    }
    emit(document, as_json, lambda: _print_outcome(decision, progress.state, progress.reason, url))
    if progress.state == "failed" or (progress.state == "waiting" and there is not None and wait):
        raise typer.Exit(1)


def _print_outcome(decision: Decision, state: str, reason: str, url: str | None) -> None:
    what = "nothing" if decision.version is None else f"{decision.model}@{decision.version}"
    if state == "done":
        out.print(f"[bold green]{decision.deployment}[/] answers with {what}" + (f" at {url}" if url else ""))
    elif state == "failed":
        err.print(f"[bold red]{decision.deployment}[/] cannot answer with {what}:", end=" ")
        err.print(reason, markup=False)
    else:
        out.print(f"decided: {decision.deployment} answers with {what}; {reason}", markup=False)
    if decision.unproven:
        out.print(f"without proof, because: {decision.unproven}", markup=False)


def _survey(
    home: Home, asked: tuple[Decision, ...], open_: dict[str, tuple[Rollout, Progress | None]]
) -> dict[str, Any]:
    """What was asked for beside what answers."""
    from modelyard.control.up import running
    from modelyard.control.watch import look
    from modelyard.errors import ServiceUnreachable

    there, seen, trouble = running(home), None, "nothing runs on this home: start `modelyard up`"
    if there is not None:
        try:
            seen = look(there.data.url)
        except ServiceUnreachable as error:
            trouble = str(error)
    rows = [_entry(decision, seen, trouble) | _beside(open_.get(decision.deployment), seen) for decision in asked]
    return {
        "ok": all(row["state"] == "READY" for row in rows),
        "running": there,
        "deployments": rows,
        "trouble": "" if seen else trouble,
    }


def _entry(decision: Decision, seen: Sighting | None, trouble: str) -> dict[str, Any]:
    served = None if seen is None else seen.find(decision.deployment)
    asked = f"{decision.model}@{decision.version}"
    state, reason, answers = _condition(decision, served, trouble if seen is None else "not loaded yet")
    return {
        "deployment": decision.deployment,
        "asked": asked,
        "answers": answers,
        "state": state,
        "reason": reason,
        "runtime": served.runtime if served else "",
        "unproven": decision.unproven,
        "by": decision.by,
        "since": decision.at,
    }


def _beside(going: tuple[Rollout, Progress | None] | None, seen: Sighting | None) -> dict[str, Any]:
    """The candidate of a deployment, and how it does."""
    from modelyard.domain.desired import CANDIDATE

    if going is None:
        return {"candidate": None}
    rollout, found = going
    served = None if seen is None else seen.find(rollout.deployment + CANDIDATE)
    return {
        "candidate": {
            "asked": rollout.candidate,
            "strategy": rollout.strategy,
            "share": rollout.share,
            "state": served.state if served else "UNAVAILABLE",
            "reason": served.reason if served else "not loaded yet",
            "progress": found,
        }
    }


def _condition(decision: Decision, served: Served | None, otherwise: str) -> tuple[str, str, str | None]:
    """The state of what was asked for, why it is so, and which version answers meanwhile."""
    if served is None:
        return "UNAVAILABLE", otherwise, None
    answers = f"{served.model}@{served.version}" if served.state == "READY" else None
    if (served.model, served.version) == (decision.model, decision.version):
        return served.state, served.reason, answers
    wanted = served.wanted
    if wanted is None or (wanted.model, wanted.version) != (decision.model, decision.version):
        return "LOADING", "the data plane has not seen the decision yet", answers
    return wanted.state, wanted.reason, answers


def _print_survey(document: dict[str, Any]) -> None:
    from modelyard.cli.cards import moment, put, table

    there = document["running"]
    if there is not None:
        out.print(f"data plane {there.data.url} (pid {there.data.pid}), control plane {there.control.url}")
    if document["trouble"]:
        out.print(document["trouble"], markup=False)
    if not document["deployments"]:
        out.print("nothing is deployed: modelyard deploy NAME@V --to DEPLOYMENT")
        return
    rows = [
        [
            row["deployment"],
            row["asked"],
            row["answers"] or "-",
            row["state"],
            row["runtime"],
            moment(row["since"]),
            "; ".join(part for part in (row["reason"], _unproven(row), _candidate(row), _rehearsed(row)) if part),
        ]
        for row in document["deployments"]
    ]
    put(table(["deployment", "asked for", "answers", "state", "runtime", "since", "notes"], rows))


def _candidate(row: dict[str, Any]) -> str:
    one = row["candidate"]
    if one is None:
        return ""
    trouble = "" if one["state"] == "READY" else f" ({one['state'].lower()}: {one['reason']})"
    found = one["progress"]
    step = ""
    if found is not None:
        said = f", {found.decision.action}: {found.decision.reason}" if found.decision else ""
        step = f", step {found.step + 1} of {len(found.shares)}{said}"
    return f"{one['strategy']}: {one['share']:.3g} of the calls to {one['asked']}{step}{trouble}"


def _rehearsed(row: dict[str, Any]) -> str:
    from modelyard.cli.cards import moment

    found: Rehearsal | None = row["rehearsal"]
    return "" if found is None else f"rehearsed {moment(found.at)}: {found.told()}"


def _unproven(row: dict[str, Any]) -> str:
    return f"unproven: {row['unproven']}" if row["unproven"] else ""
