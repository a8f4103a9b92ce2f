"""Where alerts are sent."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, out, reported_errors

if TYPE_CHECKING:
    from modelyard.monitoring.alerts.deliveries import Standing

receivers_app = typer.Typer(help="Where alerts are sent: list, add, remove, test.", no_args_is_help=True)
"""``modelyard monitor receivers``."""

Name = Annotated[str, typer.Argument(metavar="NAME")]


class Kind(StrEnum):
    """What can be added; the log is always there."""

    WEBHOOK = "webhook"
    SLACK = "slack"
    ALERTMANAGER = "alertmanager"
    EMAIL = "email"


class TlsOption(StrEnum):
    """How a connection to a mail server is made secret."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


@receivers_app.callback()
def _receivers() -> None:
    """Where alerts are sent: list, add, remove, test. The log is always told."""


@receivers_app.command("list")
def list_receivers(as_json: Json = False) -> None:
    """All receivers, what they took, and what waits for them. Addresses are shown as far as their server.

    Example: modelyard monitor receivers list
    """
    from modelyard.monitoring.alerts.deliveries import standings
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        found = standings(registry.database)
        emit({"receivers": [_document(each) for each in found]}, as_json, lambda: _print(found))


@receivers_app.command()
def add(
    name: Name,
    kind: Annotated[Kind, typer.Option("--kind", help="How it is told.")],
    url: Annotated[str, typer.Option("--url", help="Its address, if there is no secret in it.")] = "",
    url_from: Annotated[
        str, typer.Option("--url-from", metavar="PLACE", help="Where its secret address is kept.")
    ] = "",
    token_from: Annotated[
        str, typer.Option("--token-from", metavar="PLACE", help="Where the token is kept that is sent as Bearer.")
    ] = "",
    secret_from: Annotated[
        str,
        typer.Option("--secret-from", metavar="PLACE", help="Where the secret is kept that webhooks are signed with."),
    ] = "",
    host: Annotated[str, typer.Option("--host", help="The mail server.")] = "",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Its port; 0: the usual one.")] = 0,
    tls: Annotated[
        TlsOption, typer.Option("--tls", help="How the connection to it is made secret.")
    ] = TlsOption.STARTTLS,
    user: Annotated[str, typer.Option("--user", help="Who logs in there; the sender otherwise.")] = "",
    password_from: Annotated[
        str, typer.Option("--password-from", metavar="PLACE", help="Where the password is kept.")
    ] = "",
    sender: Annotated[str, typer.Option("--from", metavar="MAILBOX", help="Who mails are from.")] = "",
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="MAILBOX", help="Whom to send to; may be repeated.")
    ] = None,
    deployments: Annotated[
        list[str] | None, typer.Option("--deployment", help="Only alerts of this one; may hold *, may be repeated.")
    ] = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--only", metavar="KIND", help="Only this kind (drift, ...); may be repeated.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of one of that name.")] = False,
    as_json: Json = False,
) -> None:
    """Send alerts there too. A PLACE is the name of an environment variable, or the path of a file, with a slash in it.

    Secrets are read where alerts are sent, when they are sent; they are not stored, shown or logged.

    Example: modelyard monitor receivers add team --kind slack --url-from SLACK_WEBHOOK

    Example: modelyard monitor receivers add prometheus --kind alertmanager --url http://alertmanager:9093

    Example: modelyard monitor receivers add duty --kind email --host mail.example.org --from yard@example.org
    --to duty@example.org --password-from /run/secrets/mail
    """
    from modelyard.cli.registry import user as who
    from modelyard.monitoring.alerts.receivers import Form, Receiver, Receivers, Tls
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        asked = Receiver(
            name=name,
            form=Form(kind.value),
            url=url,
            url_from=url_from,
            token_from=token_from,
            secret_from=secret_from,
            host=host,
            port=port,
            tls=Tls(tls.value),
            user=user,
            password_from=password_from,
            sender=sender,
            to=tuple(to or ()),
            deployments=tuple(deployments or ()),
            kinds=tuple(kinds or ()),
        )
        kept = Receivers(registry.database).add(asked, by=who(), replace=replace)
        document = {"name": kept.name, "kind": kept.form.value, "place": kept.place}
        emit(document, as_json, lambda: out.print(f"alerts go to {name} too: {kept.place}", markup=False))
        if not as_json:
            out.print(f"next: modelyard monitor receivers test {name}", markup=False)


@receivers_app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Send nothing there any more, nor what still waits for it.

    Example: modelyard monitor receivers remove team
    """
    from modelyard.monitoring.alerts.receivers import Receivers
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        Receivers(registry.database).remove(name)
        emit({"removed": name}, as_json, lambda: out.print(f"{name} is not told any more", markup=False))


@receivers_app.command("test")
def try_it(name: Name, as_json: Json = False) -> None:
    """Send a receiver a message now, with the secrets of this terminal, to see whether it takes it.

    Example: modelyard monitor receivers test team
    """
    from modelyard.errors import Unavailable
    from modelyard.monitoring.alerts.courier import tried
    from modelyard.monitoring.alerts.receivers import Receivers
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        said = tried(Receivers(registry.database).get(name))
        if said:
            raise Unavailable(f"{name} did not take it: {said}")
        emit({"name": name, "taken": True}, as_json, lambda: out.print(f"{name} took it", markup=False))


def _document(each: Standing) -> dict[str, Any]:
    receiver = each.receiver
    return {
        "name": receiver.name,
        "kind": receiver.form.value,
        "place": receiver.place,
        "deployments": receiver.deployments,
        "only": receiver.kinds,
        "sent": each.sent,
        "failed_attempts": each.failed,
        "dropped": each.dropped,
        "waiting": each.waiting,
        "oldest": each.oldest,
        "error": each.error,
    }


def _print(found: list[Standing]) -> None:
    for each in found:
        receiver = each.receiver
        of = f"  of {', '.join(receiver.deployments)}" if receiver.deployments else ""
        only = f"  only {', '.join(receiver.kinds)}" if receiver.kinds else ""
        out.print(f"{receiver.name}  {receiver.form}  {receiver.place}{of}{only}".rstrip(), markup=False)
        out.print(f"    {each.sent} sent, {each.failed} attempts failed, {each.dropped} given up", markup=False)
        if each.waiting:
            out.print(f"    {each.waiting} wait: {each.error or 'not tried yet'}", markup=False)
