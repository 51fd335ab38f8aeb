"""Prints premblyd's manual page, made of its commands: run with the Python that has premblyd."""

import os
import re
import time
from collections.abc import Iterable

import click

from premblyd import __version__
from premblyd.cli import COMMANDS, main

FILES = (
    ("/etc/premblyd/premblyd.yaml", "The configuration. Every key is explained in it."),
    ("/etc/premblyd/credentials/", "Keys and secrets, one a file, for root alone."),
    ("/var/lib/premblyd/", "The record: a database with people's data."),
    ("/usr/share/doc/premblyd/", "The pages, README.md first."),
)
STATUSES = (
    ("0", "Done."),
    ("1", "Failed."),
    ("2", "The command line is wrong."),
    ("75", "Try again: the database is locked, or the daemon can't be reached."),
    ("78", "The configuration is wrong."),
)


def roff(text: str) -> str:
    """Return a text so that roff prints it as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return re.sub(r"(?m)^([.'])", r"\\&\1", escaped)


def paragraphs(text: str) -> str:
    """Return the paragraphs of a help text; what follows \\b is kept line by line."""
    lines = []
    for part in re.split(r"\n\s*\n", text.strip()):
        if part.startswith("\b\n"):
            lines += [".PP", ".nf", roff(part[2:]), ".fi"]
        else:
            lines += [".PP", roff(" ".join(part.split()))]
    return "\n".join(lines)


def entries(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(
        f".TP\n.B {roff(term)}\n{roff(' '.join(text.split()))}" for term, text in pairs
    )


def command_text(name: str, command: click.Command, context: click.Context, level: str) -> str:
    """Return the part of a command, and of those below it."""
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f'{level} "{roff(f"{name} {usage}".strip())}"', paragraphs(command.help or "")]
    records = [parameter.get_help_record(context) for parameter in command.params]
    parts.append(entries(record for record in records if record and record[1]))
    if isinstance(command, click.Group):
        for below, each in command.commands.items():
            inner = click.Context(each, info_name=below, parent=context)
            parts.append(command_text(f"{name} {below}", each, inner, level))
    return "\n".join(part for part in parts if part)


def page() -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "0"))))
    top = click.Context(main, info_name="premblyd")
    parts = [
        f'.TH PREMBLYD 1 "{day}" "premblyd {__version__}" "User Commands"',
        ".SH NAME\npremblyd \\- durable webhook daemon for Prembly\\(aqs identity verifications",
        '.SH SYNOPSIS\n.B premblyd\n.RI [ OPTIONS ] " COMMAND " [ ARGUMENTS ]',
        ".SH DESCRIPTION",
        paragraphs(main.help or ""),
        ".SH COMMANDS",
    ]
    for name in COMMANDS:
        command = main.get_command(top, name)
        assert command is not None, name  # noqa: S101  # a name of the table
        context = click.Context(command, info_name=name, parent=top)
        parts.append(command_text(f"premblyd {name}", command, context, ".SS"))
    parts += [".SH EXIT STATUS", entries(STATUSES), ".SH FILES", entries(FILES)]
    return "\n".join(parts)


if __name__ == "__main__":
    click.echo(page())
