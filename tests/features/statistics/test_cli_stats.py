"""`premblyd stats`."""

import json
from pathlib import Path
from typing import Any

from tests.support.commands import run
from tests.support.webhooks import signed  # noqa: F401


def shown(config: Path, *arguments: object) -> Any:
    return json.loads(run(*arguments, "--json", "--config", config).out)


def count(config: Path) -> int:
    """Return how many events there are: as many as the newest one's number."""
    [newest] = shown(config, "events", "--limit", 1)
    return int(newest["id"])


def test_stats_count_what_came_and_how_the_actions_fare(config: Path) -> None:
    done = run("stats", "--config", config)
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0][:2] == [f"{count(config)}", "events"]
    assert ["wrong", "signature", "1"] in lines
    [archive] = [words for words in lines if words[:1] == ["archive"]]
    assert (archive[1:4], archive[-1]) == (["100", "%", "23"], "0")


def test_stats_have_every_count_for_programs(config: Path) -> None:
    stats = shown(config, "stats", "--since", "30d")
    names = "since_ms until_ms by_outcome by_response_code by_type rejections actions"
    assert list(stats) == names.split()
    for name in ("by_outcome", "by_response_code", "by_type"):
        assert sum(each["events"] for each in stats[name]) == count(config)
        assert list(stats[name][0]) == "name events duplicates unmatched".split()
    first = stats["actions"][0]
    assert (first["action"], first["attempts"]) == ("activate-customer", {"failed": 11})
