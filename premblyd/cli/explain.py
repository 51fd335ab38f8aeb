"""premblyd explain"""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from premblyd import times
from premblyd.cli.common import config_option, json_option
from premblyd.cli.printing import bold, clean, print_json

if TYPE_CHECKING:
    from premblyd.run.invocation import Preview


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--endpoint",
    "endpoint_name",
    metavar="NAME",
    help="Judge it as sent to this endpoint (default: the first).",
)
@click.option(
    "--key",
    "key_name",
    metavar="NAME",
    help="Judge it as signed with this key (default: the first).",
)
@config_option
@json_option
def explain(
    config_path: Path,
    *,
    file: IO[bytes],
    endpoint_name: str | None,
    key_name: str | None,
    as_json: bool,
) -> None:
    """FILE holds a webhook's body; - is standard input. Nothing is started, sent or stored.

    Secrets are masked; the numbers of the event and delivery are 0 here.
    """
    from premblyd import explaining
    from premblyd.config.load import load_config

    settings = load_config(config_path, look_up_secrets=False)
    shown = explaining.explain(
        settings, file.read(), times.now_ms(), endpoint_name=endpoint_name, key_name=key_name
    )
    if as_json:
        print_json(shown.as_json())
    else:
        _print(shown.endpoint, shown.verdict, shown.runs, shown.runs_not)


def _print(
    endpoint: str,
    verdict: Mapping[str, Any],
    runs: "Mapping[str, Preview]",
    runs_not: Mapping[str, str],
) -> None:
    click.echo(f"{bold('Verdict')} (endpoint {endpoint})")
    for name, value in verdict.items():
        click.echo(f"  {name:<20} {'-' if value in (None, '') else clean(value)}")
    if not runs:
        click.echo("\nNo action: the event would be stored, and nothing would run.")
    for action, shown in runs.items():
        click.echo(f"\n{bold(action)}")
        for line in shown.lines:
            click.echo(f"  {clean(line)}")
    if runs_not:
        click.echo(f"\n{bold('Would not run')}")
    for action, reason in runs_not.items():
        click.echo(f"  {action}: {clean(reason)}")
