"""A configuration for a daemon, and the actions in it, as data."""

from typing import Any

from tests.support.webhooks import KEY, PATH

ONCE = {"attempts": 1}
AT_ONCE = {"attempts": 3, "first_delay": "0ms"}


def configuration(**changes: Any) -> dict[str, Any]:
    """Return a configuration, as data; `endpoint` changes keys of its only endpoint."""
    endpoint = {"name": "prembly", "path": PATH, "keys": {"live": KEY}}
    return {
        "listen": "127.0.0.1:0",
        "database": "sqlite:///premblyd.db",
        "log": {"format": "json"},
        "endpoints": [endpoint | changes.pop("endpoint", {})],
        **changes,
    }


def shell(name: str, script: str, *codes: str, **more: Any) -> dict[str, Any]:
    """Return an action that runs `script`."""
    return {"name": name, "response_codes": list(codes) or ["*"], "shell": script, **more}
