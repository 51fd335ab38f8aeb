"""A replay for a paused action."""

from pathlib import Path
from typing import Any

from tests.support.commands import (
    json_of,
    run,
)


def replay(config: Path, *arguments: object) -> Any:
    """Return what `replay --json` prints."""
    return json_of(config, "replay", *arguments)


def test_what_is_queued_for_a_paused_action_is_said_to_wait(config: Path) -> None:
    action = "activate-customer"
    paused = json_of(config, "pause", action, "--reason", "moved")["paused"]
    (first, *others) = replay(config, "--dead", "--action", action, "--dry-run")["would_queue"]
    assert others
    done = run("replay", first["event_id"], "--dead", "--config", config)
    assert f"\n{action} has been paused since 20" in done.out
    waits = f" UTC: moved. Its queued deliveries wait: `premblyd resume {action}`.\n"
    assert done.out.endswith(waits)
    told = replay(config, "--dead", "--action", action)
    assert (told["queued"], told["paused"]) == (len(others), [paused])
    assert (paused["action"], paused["reason"], paused["until_ms"]) == (action, "moved", None)
    assert "paused" not in replay(config, "--dead", "--action", action), "nothing was queued"
    assert "paused" not in replay(config, "--action", "archive", "--since", "9d")
