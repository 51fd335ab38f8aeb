"""premblyd explain"""

import dataclasses
import os
import re
import shlex
import time
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
from premblyd.privacy.fields import MASKED_REQUEST_HEADERS

if TYPE_CHECKING:
    from premblyd.config.models import Action, Endpoint
    from premblyd.store.jobs import Job

PREVIEW_BYTES = 2000
STAND_IN = "whsec_" + "A" * 24  # signs as any secret does; the signature is masked


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--endpoint", "endpoint_name", help="As if it came here (default: the first).")
@click.option("--key", "key_name", help="As if this key had signed it (default: the first).")
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
    from premblyd.routing import Routing

    settings = load_config(config_path, look_up_secrets=False)
    endpoints = {one.name: one for one in settings.endpoints}
    name = endpoint_name or settings.endpoints[0].name
    if name not in endpoints:
        raise PremblydError(
            f"There is no endpoint {name}; the configuration has {', '.join(endpoints)}."
        )
    endpoint = endpoints[name]
    key = key_name or next(iter(endpoint.keys))
    if key not in endpoint.keys:
        raise PremblydError(
            f"There is no key {key} at the endpoint {name}; it has {', '.join(endpoint.keys)}."
        )
    event = _event(endpoint, f"{endpoint.scheme}:{key}", file.read())
    shown = {**dataclasses.asdict(event.verdict)}
    if shown["session_id"]:
        shown["session_id"] = MASK
    judgements = Routing(settings.actions).judge(event)
    actions = [
        _explain(one.action, _job(one.action, event), endpoint)
        for one in judgements
        if one.why_not is None
    ]
    refused = [
        {"action": one.action.name, "reason": one.why_not} for one in judgements if one.why_not
    ]
    exact = {"endpoint": name, "verdict": shown, "actions": actions, "not_matched": refused}
    if as_json:
        print_json(exact)
    else:
        _print(exact)


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
        action=action.name,
        event=event,
    )


def _explain(action: "Action", job: "Job", endpoint: "Endpoint") -> dict[str, Any]:
    from premblyd.hooks.http import request
    from premblyd.hooks.shell import environment

    if action.http is None:
        return {
            "action": action.name,
            "command": environment.command_line(action),
            "environment": environment.environment(_masked(action), job, os.environ),
            "stdin_bytes": len(job.event.body),
        }
    masked = _masked(action)
    try:
        post = request.make_post(masked, job, _masked(endpoint), time.time())
    except request.BodyError as error:
        return {"action": action.name, "error": str(error)}
    hidden = {*MASKED_REQUEST_HEADERS, endpoint.header.lower()}
    return {
        "action": action.name,
        "url": post.url,
        **({"proxy": _without_login(masked.http.proxy.reveal())} if action.http.proxy else {}),
        "headers": {
            name: MASK if name.lower() in hidden else value for name, value in post.headers
        },
        "body_bytes": len(post.body),
        "body": post.body[:PREVIEW_BYTES].decode("utf-8", "replace"),
    }


def _without_login(url: str) -> str:
    return re.sub(r"//[^/]*@", f"//{MASK}@", url)


def _masked(model: Any) -> Any:
    """Return the action or endpoint with every secret's value replaced by a mask."""
    from premblyd.config.secrets import Secret

    def mask(value: Any) -> Any:
        match value:
            case Secret(source="text") if value.value and value.value.startswith("http"):
                return value  # a URL given in the open
            case Secret():
                return Secret(value.source, f"{MASK} ({value.source})")
            case dict():
                return {name: mask(one) for name, one in value.items()}
            case _ if hasattr(value, "model_copy"):
                changed = {name: mask(one) for name, one in value}
                if changed.get("sign_with"):
                    changed["sign_with"] = Secret("stand-in", STAND_IN)
                return value.model_copy(update=changed)
            case _:
                return value

    return mask(model)


def _print(exact: dict[str, Any]) -> None:
    click.echo(f"{bold('Verdict')} (endpoint {exact['endpoint']})")
    for name, value in exact["verdict"].items():
        click.echo(f"  {name:<20} {'-' if value is None else clean(value)}")
    if not exact["actions"]:
        click.echo("\nNo action: the event would be stored, and nothing would run.")
    _print_actions(exact["actions"])
    if exact["not_matched"]:
        click.echo(f"\n{bold('Would not run')}")
    for one in exact["not_matched"]:
        click.echo(f"  {one['action']}: {clean(one['reason'])}")


def _print_actions(actions: list[dict[str, Any]]) -> None:
    for one in actions:
        click.echo(f"\n{bold(one['action'])}")
        if "error" in one:
            click.echo(f"  would fail: {clean(one['error'])}")
        elif "url" in one:
            click.echo(f"  POST {clean(one['url'])}")
            if "proxy" in one:
                click.echo(f"  by the proxy {clean(one['proxy'])}")
            for name, value in one["headers"].items():
                click.echo(f"  {name}: {clean(value)}")
            click.echo(f"  body, {one['body_bytes']} bytes:")
            for line in one["body"].splitlines():
                click.echo(f"    {clean(line)}")
            if one["body_bytes"] > PREVIEW_BYTES:
                click.echo("    … and more")
        else:
            click.echo(f"  {clean(shlex.join(one['command']))}")
            for name, value in one["environment"].items():
                click.echo(f"  {name}={clean(value)}")
            click.echo(f"  standard input: the body, {one['stdin_bytes']} bytes")
