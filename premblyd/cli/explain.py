"""premblyd explain"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from premblyd import times
from premblyd.cli.common import config_option, json_option
from premblyd.cli.printing import bold, clean, print_json
from premblyd.errors import PremblydError
from premblyd.prembly import payload
from premblyd.prembly.webhook import StoredEvent
from premblyd.privacy.documents import MASK
from premblyd.privacy.fields import SECRET_VERDICT_FIELDS

if TYPE_CHECKING:
    from premblyd.config.models import Action, Config, Endpoint
    from premblyd.hooks.preview import Preview
    from premblyd.store.jobs import Job


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--endpoint", "endpoint_name", help="Judge it as sent to this endpoint (default: the first)."
)
@click.option("--key", "key_name", help="Judge it as signed with this key (default: the first).")
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
    from premblyd.config.load import load_config
    from premblyd.hooks import kinds
    from premblyd.routing import Routing

    settings = load_config(config_path, look_up_secrets=False)
    endpoint = _endpoint(settings, endpoint_name)
    event = _event(endpoint, f"{endpoint.scheme}:{_key(endpoint, key_name)}", file.read())
    verdict = {
        name: MASK if value and name in SECRET_VERDICT_FIELDS else value
        for name, value in dataclasses.asdict(event.verdict).items()
    }
    runs: dict[str, Preview] = {}
    runs_not: dict[str, str] = {}
    for judgement in Routing(settings.actions).judge(event):
        action = judgement.action
        if judgement.why_not is None:
            runs[action.name] = kinds.preview(action.hook, _job(action, event), endpoint)
        else:
            runs_not[action.name] = judgement.why_not
    if not as_json:
        _print(endpoint.name, verdict, runs, runs_not)
        return
    print_json(
        {
            "endpoint": endpoint.name,
            "verdict": verdict,
            "actions": [{"action": action} | shown.facts for action, shown in runs.items()],
            "not_matched": [
                {"action": action, "reason": reason} for action, reason in runs_not.items()
            ],
        }
    )


def _endpoint(settings: "Config", name: str | None) -> "Endpoint":
    """Return the endpoint called `name`; the first one for None."""
    endpoints = {endpoint.name: endpoint for endpoint in settings.endpoints}
    if name and name not in endpoints:
        raise PremblydError(
            f"There is no endpoint {name}; the configuration has {', '.join(endpoints)}."
        )
    return endpoints[name] if name else settings.endpoints[0]


def _key(endpoint: "Endpoint", name: str | None) -> str:
    """Return the name of the endpoint's key, if it has it; of its first key for None."""
    key = name or next(iter(endpoint.keys))
    if key not in endpoint.keys:
        raise PremblydError(
            f"There is no key {key} at the endpoint {endpoint.name};"
            f" it has {', '.join(endpoint.keys)}."
        )
    return key


def _event(endpoint: "Endpoint", verified_by: str, body: bytes) -> StoredEvent:
    return StoredEvent(
        id=0,
        key="0" * 32,
        endpoint=endpoint.name,
        received_at_ms=times.now_ms(),
        remote_ip="",
        token="stand-in",  # noqa: S106
        headers='[["Content-Type", "application/json"]]',
        body=body,
        verified_by=verified_by,
        verdict=payload.read(body, endpoint.fields),
    )


def _job(action: "Action", event: StoredEvent) -> "Job":
    from premblyd.store.jobs import Job

    return Job(
        delivery_id=0,
        attempt_id=0,
        attempt=1,
        attempts_left=action.retry.attempts - 1,
        started_at_ms=event.received_at_ms,
        action=action.name,
        worker="",
        event=event,
    )


def _print(
    endpoint: str,
    verdict: Mapping[str, Any],
    runs: "Mapping[str, Preview]",
    runs_not: Mapping[str, str],
) -> None:
    click.echo(f"{bold('Verdict')} (endpoint {endpoint})")
    for name, value in verdict.items():
        click.echo(f"  {name:<20} {'-' if value is None else clean(value)}")
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
