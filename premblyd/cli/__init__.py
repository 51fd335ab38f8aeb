"""What an operator types. A command's module is imported when the command runs, so that
`premblyd --help` answers at once."""

import atexit
import difflib
import gc
import importlib
import inspect
import keyword
import os
import resource
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from premblyd import __version__
from premblyd.cli import caller
from premblyd.errors import PremblydError, TryAgainError

# Each command, as it is typed: the module that holds a click command of its last word, and what it
# does; in the order and under the headings of `--help`.
SECTIONS = {
    "Run": {
        "serve": ("serve", "Run the daemon in the foreground."),
        "check": ("check", "Validate the configuration; print which actions run for which code."),
        "init": ("check", "Write an annotated premblyd.yaml."),
        "demo": ("demo", "See it work: a daemon on a temporary database, and sample webhooks."),
        "send": ("send", "Sign and POST a payload as Prembly does."),
        "explain": ("explain", "Dry run: show what would happen for a payload."),
        "try": ("explain", "Run one hook once, for a payload or a test alert."),
        "rehearse": ("rehearse", "Dry run: what a new configuration would do with past events."),
    },
    "Look": {
        "status": ("status", "Show what needs attention; exit status 1 or 2 if anything does."),
        "stats": ("stats", "Show statistics of events, rejections and actions."),
        "events": ("lists", "List events; --follow shows new ones as they arrive."),
        "show": ("show", "Show one event with its deliveries and attempts."),
        "deliveries": ("lists", "List deliveries; --state dead: those that gave up."),
        "rejections": ("lists", "List requests that were refused."),
        "unsettled": (
            "lists",
            "List verifications that have no final result yet.",
        ),
        "sql": ("sql", "Query the database in SQL, read-only."),
    },
    "Act": {
        "replay": (
            "replay",
            "Run hooks again: for dead or finished deliveries, or for a new action.",
        ),
        "cancel": ("replay", "Cancel pending deliveries, and dead ones that won't be retried."),
        "pause": ("pause", "Stop starting an action's hooks, on all hosts."),
        "resume": ("pause", "Start a paused action's hooks again."),
    },
    "Keep": {
        "reconcile": ("reconcile", "Find missed webhooks, and ask Prembly for them."),
        "console": ("console", "Print a link to sign in to the console."),
        "hosts": ("hosts", "List the hosts that share a PostgreSQL database; remove one."),
        "person hold": ("hold", "Legal hold: exempt a person from deletion."),
        "person release": ("hold", "End a legal hold."),
        "person erase": ("erase", "Delete every personal value of a person, at their request."),
        "person export": ("export", "Write a ZIP of everything stored about a person."),
        "record backup": ("backup", "Copy the record into a folder, while the daemon runs."),
        "record restore": ("restore", "Put a copy in the place of the database."),
        "record encrypt": ("encrypt", "Encrypt the SQLite file, or change its key."),
        "record prune": ("prune", "Delete data whose retention period has expired."),
        "record vacuum": ("vacuum", "Write the database anew, without bytes of erased data."),
        "record move": ("move", "Move the record from SQLite to PostgreSQL."),
    },
}
COMMANDS = {name: each for section in SECTIONS.values() for name, each in section.items()}
GROUPS = {
    "person": "Hold, release, erase or export a person's data.",
    "record": "Copy the record, encrypt it, delete expired data, move to PostgreSQL.",
}
# After Ctrl-C in a command that takes long: what was done, and how to continue.
_CONTINUES = "Nothing is half done. Run the same command again to continue."
INTERRUPTED = {
    "record backup": "No copy was made. Run the same command again.",
    "record prune": _CONTINUES,
    "person erase": f"{_CONTINUES} `premblyd person erase --list` lists what was erased.",
    "person export": "No file was written. Run the same command again.",
    "record restore": "Run the same command again.",
    "record vacuum": "Nothing was changed. Run the same command again.",
    "record encrypt": "The record is whole. Run the same command again.",
    "record move": "Nothing was moved. Run the same command again.",
}
F = TypeVar("F", bound=Callable[..., Any])
_ARGUMENTS, _TYPED = "premblyd.arguments", "premblyd.command"

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
            group = _Imported(cmd_name, help=GROUPS[name])
            group.prefix = f"{name} "
            return group
        if name not in COMMANDS:
            return None
        module, summary = COMMANDS[name]
        loaded = importlib.import_module(f"premblyd.cli.{module}")
        attribute = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(loaded, attribute)
        command.help = f"{summary}\n\n{inspect.getdoc(command.callback) or ''}"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None:
            words = {name.rpartition(" ")[2]: name for name in COMMANDS}
            own = {name: f"{self.prefix}{name}" for name in self.list_commands(ctx)}
            known = words | own
            close = difflib.get_close_matches(args[0], known, n=1)
            if close:
                said = f"No such command '{self.prefix}{args[0]}'."
                ctx.fail(f"{said} Did you mean '{known[close[0]]}'?")
        ctx.meta[_TYPED] = f"{self.prefix}{args[0]}"
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [(each, COMMANDS[f"{self.prefix}{each}"][1]) for each in self.list_commands(ctx)]
            )


class Commands(_Imported):
    """What is typed behind `premblyd`."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, commands in SECTIONS.items():
            names = dict.fromkeys(name.partition(" ")[0] for name in commands)
            with formatter.section(heading):
                formatter.write_dl(
                    [(each, GROUPS.get(each) or COMMANDS[each][1]) for each in names]
                )

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
        for text in args:
            if not _is_text(text):
                shown = os.fsencode(text).decode(errors="backslashreplace")
                raise click.UsageError(f"'{shown}' is not UTF-8 text.")
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PremblydError as error:
            click.echo(caller.as_called(f"{error}"), err=True)
            if error.by_user:
                click.echo(f"As that user: {_with_sudo(ctx, '-u', error.by_user)}", err=True)
            elif error.lacks_rights and os.geteuid() != 0 and not caller.is_service():
                if group := caller.reading_group():
                    told = f"Members of the group {group} may read, from their next login on:"
                    click.echo(f'{told} sudo usermod -aG {group} "$USER"', err=True)
                click.echo(f"With the rights it needs: {_with_sudo(ctx)}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            typed = ctx.meta.get(_TYPED, "")
            kept = INTERRUPTED.get(typed)
            if kept is None:
                raise
            click.echo(caller.as_called(f"Interrupted. {kept}"), err=True)
            ctx.exit(TryAgainError.exit_code if typed == "record move" else 1)


def _leave_no_dump() -> None:
    """Have nothing of this process's memory written to a file when it crashes, nor of what it
    starts: people's data are in it, and nobody would erase them there. A hook may ask for dumps of
    its own (`ulimit -c`)."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def config_option(command: F) -> F:
    """Let `--config` stand after the command too; the parameter is `config_path`."""

    def last_named(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path:
        config_path: Path = value or ctx.obj  # it may be named before the command
        caller.go_by(ctx, config_path)
        return config_path

    return click.option(
        "--config",
        "config_path",
        type=click.Path(readable=False, path_type=Path),
        callback=last_named,
        help="The configuration file.",
    )(command)


def json_option(command: F) -> F:
    """Add `--json`; the parameter is `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _with_sudo(ctx: click.Context, *options: str) -> str:
    """Return the command line that was typed, as root's, or as `options` of sudo say. It drops
    PREMBLYD_CONFIG."""
    arguments = ctx.meta[_ARGUMENTS]
    is_named = any(each.partition("=")[0] == "--config" for each in arguments)
    if ctx.get_parameter_source("config_path") is ParameterSource.ENVIRONMENT and not is_named:
        arguments = ["--config", str(ctx.obj), *arguments]
    return f"{shlex.join(['sudo', *options])} {caller.name()} {shlex.join(arguments)}"


def _is_text(argument: str) -> bool:
    """Return whether an argument is UTF-8: other bytes stand in it as half characters, which no
    database takes."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


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
