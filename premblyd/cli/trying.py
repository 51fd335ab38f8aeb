"""premblyd try"""

import asyncio
import dataclasses
import socket
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from premblyd import times
from premblyd.cli.common import config_option, json_option
from premblyd.cli.printing import clean, print_json
from premblyd.errors import PremblydError
from premblyd.procfs import hide_this_process

if TYPE_CHECKING:
    from premblyd.alerts.message import Message
    from premblyd.config.hooks import Hook
    from premblyd.config.models import Config
    from premblyd.queue.jobs import Result
    from premblyd.run.invocation import Invocation

ALL_THAT_IS_KNOWN = (
    "That its hook ended with status 0 is all that is known: some programs, such as Debian's mail,"
    " do so when nothing was sent. See whether it arrived."
)


@click.command("try")
@click.argument("action", required=False)
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--alert", "alert_name", metavar="NAME", help="Run this alert's hook, with a test.")
@click.option(
    "--endpoint",
    "endpoint_name",
    metavar="NAME",
    help="As sent to this endpoint (default: the first).",
)
@click.option(
    "--key", "key_name", metavar="NAME", help="As signed with this key (default: the first)."
)
@config_option
@json_option
def try_(
    config_path: Path,
    *,
    action: str | None,
    file: IO[bytes] | None,
    alert_name: str | None,
    endpoint_name: str | None,
    key_name: str | None,
    as_json: bool,
) -> None:
    """Run the hook of ACTION once for the webhook's body in FILE (- is standard input), or with
    --alert that of an alert. It really runs, as this user (for root, as the service would run it),
    and what it does is done. Prembly is not asked, whatever `confirm` says. Nothing is stored, and
    nothing is tried again.

    Exit status 0: it succeeded. 1: it failed.
    """
    from premblyd.cli import as_service
    from premblyd.config.load import load_config

    given = (action is not None, file is not None)
    if given != ((True, True) if alert_name is None else (False, False)):
        raise click.UsageError("Give ACTION and FILE, or --alert NAME.")
    if as_service.is_for_service(config_path):
        # Not as root: as the service runs it, with its keys and its sandbox.
        status = as_service.run(_arguments(), stdin=file)
        if status is not None:
            raise SystemExit(status)
    hide_this_process()
    settings = load_config(config_path)
    now_ms = times.now_ms()
    if alert_name is not None:
        message = _example(settings, alert_name, now_ms)
        name, hook, invocation = alert_name, message.alert.hook, message.invocation()
    else:
        from premblyd import explaining

        body = file.read() if file is not None else b""
        trial = explaining.trial(
            settings, action or "", body, now_ms, endpoint_name=endpoint_name, key_name=key_name
        )
        name, hook, invocation = trial.action.name, trial.action.hook, trial.invocation
        if trial.why_not is not None:
            click.echo(f"note: the daemon would not run it for this: {trial.why_not}", err=True)
    result = asyncio.run(_run(settings, hook, invocation))
    took_ms = times.now_ms() - now_ms
    _print(name, result, took_ms, is_alert=alert_name is not None, as_json=as_json)
    raise SystemExit(0 if result.outcome == "succeeded" else 1)


def _arguments() -> list[str]:
    """Return this command's own arguments, with standard input for the file."""
    parameters = click.get_current_context().params
    words = ["try"]
    for option, name in (("--alert", "alert_name"), ("--endpoint", "endpoint_name")):
        if parameters[name] is not None:
            words += [option, parameters[name]]
    if parameters["key_name"] is not None:
        words += ["--key", parameters["key_name"]]
    if parameters["as_json"]:
        words.append("--json")
    if parameters["action"] is not None:
        words += ["--", parameters["action"], "-"]
    return words


def _example(settings: "Config", name: str, now_ms: int) -> "Message":
    from premblyd.alerts.message import example

    alerts = {alert.name: alert for alert in settings.alerts}
    if name not in alerts:
        has = f"it has {', '.join(alerts)}" if alerts else "it has none"
        raise PremblydError(f"The configuration has no alert {name}; {has}.")
    return example(alerts[name], socket.gethostname(), now_ms)


async def _run(settings: "Config", hook: "Hook", invocation: "Invocation") -> "Result":
    from premblyd.run.kinds import Runners
    from premblyd.run.process import Children

    runners = Runners.make(Children())
    try:
        runners.configure(settings)
        return await runners.run(hook, invocation)
    finally:
        runners.interrupt()  # at Ctrl-C: what still runs is ended, and not waited for
        runners.close()


def _print(name: str, result: "Result", took_ms: int, *, is_alert: bool, as_json: bool) -> None:
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
