"""premblyd explain and try: shows what would happen for a payload; really runs one hook."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click

from premblyd.cli import as_service, config_option, json_option
from premblyd.cli.common import sender_options
from premblyd.cli.printing import bold, clean, print_json
from premblyd.config.hooks import Hook
from premblyd.config.load import load_config
from premblyd.config.models import Config, named
from premblyd.config.routing import Routing
from premblyd.feature import added
from premblyd.features.tryout import explaining
from premblyd.features.tryout.explaining import Explanation
from premblyd.ground import times
from premblyd.ground.errors import PremblydError
from premblyd.ground.logs import output
from premblyd.ground.procfs import hide_this_process
from premblyd.queue.jobs import Result
from premblyd.record import standing
from premblyd.run.invocation import Invocation
from premblyd.run.kinds import Runners
from premblyd.run.process import Children
from premblyd.store.connections import connect_read_only

ALL_THAT_IS_KNOWN = (
    "The hook ended with exit status 0. Some programs, such as Debian's mail, do that even if"
    " nothing was sent: check that it arrived."
)


@click.command()
@click.argument("file", type=click.File("rb"))
@sender_options
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
    settings = load_config(config_path, look_up_secrets=False)
    webhook = explaining.webhook_of(
        settings, file.read(), times.now_ms(), endpoint_name=endpoint_name, key_name=key_name
    )
    shown = explaining.explain(settings, webhook, _paused(settings))
    if as_json:
        print_json(shown.as_json())
    else:
        _print(shown)


def _paused(settings: Config) -> dict[str, str]:
    """Return what there is to say of the paused actions; nothing where the record can't be read."""
    with (
        contextlib.suppress(PremblydError),  # no database yet, or none that this user may read
        contextlib.closing(connect_read_only(settings.database)) as database,
    ):
        return standing.at_rest_in_words(database, database.now_ms())
    return {}


def _print(shown: Explanation) -> None:
    click.echo(f"{bold('Verdict')} (endpoint {shown.endpoint})")
    for name, value in shown.verdict.items():
        empty = "missing" if name == "response_code" else "-"
        click.echo(f"  {name:<20} {empty if value in (None, '') else clean(value)}")
    if not shown.runs:
        click.echo("\nNo action: the event would be stored, and nothing would run.")
    for action, preview in shown.runs.items():
        click.echo(f"\n{bold(action)}")
        for line in preview.lines:
            click.echo(f"  {clean(line)}")
    if shown.runs_not:
        click.echo(f"\n{bold('Would not run')}")
    for action, reason in shown.runs_not.items():
        click.echo(f"  {action}: {clean(reason)}")


def _tried_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options by which features have hooks of their own tried."""
    for name, about, _ in added("message", "TRIED"):
        command = click.option(f"--{name}", metavar="NAME", help=about)(command)
    return command


@click.command("try")
@click.argument("action", required=False)
@click.argument("file", type=click.File("rb"), required=False)
@_tried_options
@sender_options
@config_option
@json_option
def try_(
    config_path: Path,
    *,
    action: str | None,
    file: IO[bytes] | None,
    endpoint_name: str | None,
    key_name: str | None,
    as_json: bool,
    **others: str | None,
) -> None:
    """Runs the hook of ACTION once, for the webhook body in FILE (- is standard input), or with
    one of the options the hook that it names. It really runs: as you, or for root as the service
    would run it. Prembly is not asked, even with `confirm`. Nothing is stored, and nothing is
    retried.

    Exit status 0: it succeeded. 1: it failed.
    """
    chosen = [option for option, name in others.items() if name is not None]
    if (action is not None, file is not None, len(chosen)) not in ((1, 1, 0), (0, 0, 1)):
        ways = ["Give ACTION and FILE", *(f"or --{option} NAME" for option in others)]
        raise click.UsageError(", ".join(ways) + ".")
    # Not as root: as the service runs it, with its keys and its sandbox.
    as_service.hand_over(config_path, file)
    hide_this_process()
    output.configure("auto", "critical")  # what became of it is told in this command's words
    settings = load_config(config_path)
    now_ms = times.now_ms()
    if chosen:
        make: dict[str, Any] = {option: make for option, _, make in added("message", "TRIED")}
        name = others[chosen[0]] or ""
        hook, invocation = make[chosen[0]](settings, name, now_ms)
    else:
        body = file.read() if file is not None else b""
        own = named("action", action, {each.name: each for each in settings.actions})
        webhook = explaining.webhook_of(
            settings, body, now_ms, endpoint_name=endpoint_name, key_name=key_name
        )
        name, hook = own.name, own.hook
        invocation = explaining.invocation_of(own, webhook)
        if (why_not := Routing(settings.actions).why_not(own, webhook)) is not None:
            click.echo(f"note: the daemon would not run it for this: {why_not}", err=True)
    result = asyncio.run(_run(settings, hook, invocation))
    took_ms = times.now_ms() - now_ms
    _print_result(name, result, took_ms, is_alert=bool(chosen), as_json=as_json)
    raise SystemExit(0 if result.outcome == "succeeded" else 1)


async def _run(settings: Config, hook: Hook, invocation: Invocation) -> Result:
    runners = Runners.make(Children())
    try:
        runners.configure(settings)
        return await runners.run(hook, invocation)
    finally:
        runners.interrupt()  # at Ctrl-C: what still runs is ended, and not waited for
        runners.close()


def _print_result(
    name: str, result: Result, took_ms: int, *, is_alert: bool, as_json: bool
) -> None:
    if as_json:
        shown = dataclasses.asdict(result)
        names = "outcome exit_code http_status error output output_truncated".split()
        print_json({"name": name, **{each: shown[each] for each in names}, "duration_ms": took_ms})
        return
    error = f": {result.error}" if result.error else ""
    answer = f" (HTTP {result.http_status})" if result.http_status and not error else ""
    click.echo(clean(f"{name} {result.outcome} after {took_ms} ms{error}{answer}"))
    for line in (result.output or "").splitlines():
        click.echo(f"  | {clean(line)}")
    if result.output_truncated:
        click.echo("  | … the rest was not kept")
    if is_alert and result.exit_code == 0:
        click.echo(ALL_THAT_IS_KNOWN)
