"""Prints premblyd's manual page, made of its commands: run with the Python that has premblyd."""

import os
import re
import time
from collections.abc import Iterable, Iterator

import click

from premblyd import __version__
from premblyd.cli import main

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


def command_texts(group: click.Group, context: click.Context, name: str) -> Iterator[str]:
    """Yield the part of each command of a group, and of those below it."""
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None, word  # noqa: S101  # the group lists it
        inner = click.Context(command, info_name=word, parent=context)
        usage = " ".join(command.collect_usage_pieces(inner))
        yield f'.SS "{roff(f"{name} {word} {usage}".strip())}"'
        yield paragraphs(command.help or "")
        records = [parameter.get_help_record(inner) for parameter in command.params]
        yield entries(record for record in records if record and record[1])
        if isinstance(command, click.Group):
            yield from command_texts(command, inner, f"{name} {word}")


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
    parts += filter(None, command_texts(main, top, "premblyd"))
    parts += [".SH EXIT STATUS", entries(STATUSES), ".SH FILES", entries(FILES)]
    return "\n".join(parts)


if __name__ == "__main__":
    click.echo(page())
