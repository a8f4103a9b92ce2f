"""Write the command-line reference from the program itself: ``python -m docs.generate``."""

from __future__ import annotations

from pathlib import Path

import click
import typer

from modelyard.cli.app import COMMANDS, app

TARGET = Path(__file__).parent / "reference" / "cli.md"


def reference() -> str:
    """The whole reference as Markdown, in the order in which the program lists its commands."""
    group = typer.main.get_command(app)
    context = click.Context(group, info_name="modelyard")
    pages = ["# Command line\n\nGenerated from the program by `make docs`. Every command takes `--json` and `--help`.\n"]
    for name in COMMANDS:
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        pages.append(page(command, click.Context(command, parent=context, info_name=name), level=2))
    return "\n".join(pages)


def page(command: click.Command, context: click.Context, level: int) -> str:
    """One command and, below it, its subcommands."""
    title = f"{'#' * level} `{context.command_path}`"
    text = f"{title}\n\n```text\n{command.get_help(context).strip()}\n```\n"
    for name in getattr(command, "commands", {}):
        child = command.commands[name]  # type: ignore[attr-defined]
        text += "\n" + page(child, click.Context(child, parent=context, info_name=name), level + 1)
    return text


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(reference())
