"""What an operator types. A command's module is imported when the command runs, so that
`premblyd --help` answers at once."""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import click

from premblyd import __version__
from premblyd.errors import PremblydError

# Each command: the module that holds a click command of that name, and what it does.
COMMANDS = {
    "serve": ("serve", "Run the daemon in the foreground."),
    "check": ("check", "Validate the configuration; print which actions run for which code."),
    "init": ("init", "Write an annotated premblyd.yaml."),
    "demo": ("demo", "See it work: a daemon on a temporary database, and sample webhooks."),
    "send": ("send", "Sign and POST a payload as Prembly does."),
    "explain": ("explain", "Dry run: what would happen for a payload."),
    "events": ("events", "List events."),
    "show": ("show", "Show one event with its deliveries and attempts."),
    "deliveries": ("deliveries", "List deliveries; --state dead are the dead letters."),
    "replay": ("replay", "Queue finished deliveries again."),
    "cancel": ("cancel", "Stop a pending delivery."),
}


class Commands(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, summary = COMMANDS[cmd_name]
        loaded = importlib.import_module(f"premblyd.cli.{module}")
        command: click.Command = getattr(loaded, cmd_name)
        command.help = f"{summary}\n\n{inspect.getdoc(command.callback) or ''}"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PremblydError as error:
            click.echo(f"{error}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:  # the reader of our output has seen enough
            sys.stderr.close()
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="premblyd")
@click.option(
    "--config",
    "config_path",
    envvar="PREMBLYD_CONFIG",
    default="/etc/premblyd/premblyd.yaml",
    show_default=True,
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="The configuration file.",
)
@click.pass_context
def main(ctx: click.Context, config_path: Path) -> None:
    """A durable webhook daemon for Prembly's identity verifications.

    Exit status: 0 done, 1 failed, 2 usage, 75 try again, 78 configuration.
    """
    ctx.obj = config_path
