"""What an operator types. A command's module is imported when the command runs, so that
`premblyd --help` answers at once."""

import atexit
import gc
import importlib
import inspect
import keyword
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from premblyd import __version__
from premblyd.cli import caller
from premblyd.feature import Command, added
from premblyd.ground.errors import PremblydError

_COMMANDS = (
    Command("serve", "Run", "premblyd.cli.serve", "Run the daemon in the foreground."),
    Command(
        "check",
        "Run",
        "premblyd.cli.check",
        "Validate the configuration; print which actions run for which code.",
    ),
    Command("init", "Run", "premblyd.cli.check", "Write an annotated premblyd.yaml."),
    Command(
        "status",
        "Look",
        "premblyd.cli.status",
        "Show what needs attention; exit status 1 or 2 if anything does.",
    ),
    Command(
        "events",
        "Look",
        "premblyd.cli.lists",
        "List events, and whether each was handled.",
    ),
    Command(
        "show", "Look", "premblyd.cli.show", "Show one event with its deliveries and attempts."
    ),
    Command(
        "deliveries",
        "Look",
        "premblyd.cli.lists",
        "List deliveries; --state dead: those that gave up.",
    ),
    Command("rejections", "Look", "premblyd.cli.lists", "List requests that were refused."),
    Command("sql", "Look", "premblyd.cli.sql", "Query the database in SQL, read-only."),
    Command(
        "replay",
        "Act",
        "premblyd.cli.replay",
        "Run hooks again: for dead or finished deliveries, or for a new action.",
    ),
    Command(
        "cancel",
        "Act",
        "premblyd.cli.replay",
        "Cancel pending deliveries, and dead ones that won't be retried.",
    ),
)
HEADINGS = ("Run", "Look", "Act", "Keep")
COMMANDS: dict[str, Command] = {
    command.name: command for command in (*_COMMANDS, *added("__init__", "COMMANDS"))
}
# What the first word of two is about.
GROUPS = {"person": "A person's data", "record": "The whole record"}
F = TypeVar("F", bound=Callable[..., Any])
_TYPED = "premblyd.command"

# Python looks for cycles of objects at every 700 new ones, and through all objects at the end. What
# is imported has none and stays: together that takes a fifth of a short command's time.
gc.set_threshold(20_000, 20, 50)
atexit.register(gc.freeze)


class _Imported(click.Group):
    """A group whose commands are imported on use. `prefix`: of their names in COMMANDS."""

    prefix = ""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = (name for name in COMMANDS if name.startswith(self.prefix))
        return list(dict.fromkeys(name[len(self.prefix) :].partition(" ")[0] for name in names))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = f"{self.prefix}{cmd_name}"
        if name in GROUPS:
            group = _Imported(cmd_name, help=_about_group(name))
            group.prefix = f"{name} "
            return group if group.list_commands(ctx) else None
        if name not in COMMANDS:
            return None
        loaded = importlib.import_module(COMMANDS[name].module)
        attribute = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(loaded, attribute)
        command.help = f"{COMMANDS[name].summary}\n\n{inspect.getdoc(command.callback) or ''}"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.meta[_TYPED] = f"{self.prefix}{args[0]}"
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (each, COMMANDS[f"{self.prefix}{each}"].summary)
                    for each in self.list_commands(ctx)
                ]
            )


class Commands(_Imported):
    """What is typed behind `premblyd`."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading in HEADINGS:
            about = {
                first: _about_group(first) if rest else each.summary
                for each in COMMANDS.values()
                if each.heading == heading
                for first, _, rest in [each.name.partition(" ")]
            }
            if about:
                with formatter.section(heading):
                    formatter.write_dl(list(about.items()))

    def main(self, *args: Any, **more: Any) -> Any:
        _leave_no_dump()
        caller.take_over()
        try:
            try:
                return super().main(*args, **more)
            finally:
                caller.flush()
        except PremblydError as error:  # the output can't be written
            click.echo(f"{error}", err=True)
            sys.exit(error.exit_code)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            "".join(args).encode()
        except UnicodeEncodeError:  # other bytes are half characters, which no database takes
            raise click.UsageError("An argument is not UTF-8 text.") from None
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PremblydError as error:
            click.echo(f"{error}", err=True)
            if error.by_user:
                click.echo(f"Run it as that user: `sudo -u {error.by_user}`.", err=True)
            elif error.lacks_rights and os.geteuid() != 0:
                click.echo("With `sudo` you have the rights that it needs.", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            command = COMMANDS.get(ctx.meta.get(_TYPED, ""))
            if command is None or not command.interrupted:
                raise
            click.echo(f"Interrupted. {command.interrupted}", err=True)
            ctx.exit(command.exit_code)


def _about_group(name: str) -> str:
    """Return what the commands of two words do that begin with `name`."""
    words = [each.removeprefix(f"{name} ") for each in COMMANDS if each.startswith(f"{name} ")]
    return f"{GROUPS[name]}: {', '.join(words)}."


def _leave_no_dump() -> None:
    """Have nothing of this process's memory written to a file when it crashes, nor of what it
    starts: people's data are in it, and nobody would erase them there. A hook may ask for dumps of
    its own (`ulimit -c`)."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def config_option(command: F) -> F:
    """Let `--config` stand after the command too; the parameter is `config_path`."""

    return click.option(
        "--config",
        "config_path",
        type=click.Path(readable=False, path_type=Path),
        callback=lambda ctx, _, value: value or ctx.obj,  # it may be named before the command
        help="The configuration file.",
    )(command)


def json_option(command: F) -> F:
    """Add `--json`; the parameter is `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="premblyd")
@click.option(
    "--config",
    "config_path",
    envvar=caller.CONFIG_VARIABLE,
    default=caller.DEFAULT_CONFIG,
    show_default=True,
    show_envvar=True,
    type=click.Path(readable=False, path_type=Path),
    help="The configuration file.",
)
@click.pass_context
def main(ctx: click.Context, config_path: Path) -> None:
    """A durable webhook daemon for Prembly's identity verifications.

    Exit status: 0 done, 1 failed, 2 usage, 75 try again, 78 configuration.
    """
    ctx.obj = config_path
    if os.environ.get("NO_COLOR"):
        ctx.color = False  # for click; rich knows it
