"""Write the command-line reference from the program itself: ``python -m docs.generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from modelyard.cli.app import COMMANDS, app

TARGET = Path(__file__).parent / "reference" / "cli.md"
WIDTH = 100


def reference() -> str:
    """The whole reference as Markdown, in the order in which the program lists its commands."""
    group: Any = typer.main.get_command(app)
    root = group.context_class(group, info_name="modelyard")
    pages = ["# Command line\n\nWritten by `make docs`. Every command takes `--json` and `--help`.\n"]
    pages += [page(group.get_command(root, name), root, name, level=2) for name in COMMANDS]
    return "\n".join(pages)


def page(command: Any, parent: Any, name: str, level: int) -> str:
    """One command and, below it, its subcommands."""
    command.rich_markup_mode = None  # plain text: the boxes that a terminal shows do not belong on a page
    context = command.context_class(command, parent=parent, info_name=name, terminal_width=WIDTH)
    text = f"{'#' * level} {context.command_path}\n\n```text\n{command.get_help(context).strip()}\n```\n"
    children = getattr(command, "commands", {})
    return text + "".join("\n" + page(child, context, child_name, level + 1) for child_name, child in children.items())


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(reference())
