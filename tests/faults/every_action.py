"""What the daemon of the canary campaign is configured with: every kind of action, and those that
answer it."""

from pathlib import Path
from typing import Any

from tests.support import prembly_api
from tests.support.configuration import ONCE, shell
from tests.support.http_server import Handler
from tests.support.prembly_api import PremblyApi

RETENTION = {"body": "90d", "identity": "1y", "rejections": "90d"}


def settings(at: Path, api: PremblyApi, url: str) -> dict[str, Any]:
    """Return a configuration with every kind of action."""
    prints = "cat; env; echo $PREMBLY_REFERENCE $PREMBLY_USER_REF >&2"
    waits = f"while test ! -e {at}/go; do sleep 0.02; done; {prints}"
    again = {"attempts": 5, "first_delay": "1h"}
    holds = {"by": "reference", "then": "wait"}
    return {
        "prembly": {"url": api.url, "api_key": prembly_api.KEY, "rate": 200},
        "pending": {"ask": ["50ms"], "give_up": "1h"},
        "retention": RETENTION,
        "console": {"listen": "127.0.0.1:0"},
        "log": {"format": "json", "level": "debug"},
        "actions": [
            shell("prints", prints, retry=ONCE),
            shell("waits", waits, concurrency=40, timeout="5m"),
            shell("later", f"{prints}; exit 1", retry=again),
            shell("once", prints, once="reference"),
            shell("line", f"{prints}; exit 3", order=holds, retry=ONCE),
            shell("confirmed", prints, confirm=True, retry=ONCE),
            shell("told", prints, erased="run", types=["*"], retry=ONCE),
            {"name": "echoes", "response_codes": ["*"], "http": {"url": url}, "retry": ONCE},
        ],
    }


def slow(handler: Any) -> None:
    """Answer when told to."""
    handler.server.api.released.wait()
    handler.reply_bytes(handler.own_answer())


def echo(handler: Handler) -> None:
    """Answer what was sent, headers too, as an error."""
    _, headers, body = handler.server.requests[-1]
    handler.reply(500, str(headers).encode() + body)
