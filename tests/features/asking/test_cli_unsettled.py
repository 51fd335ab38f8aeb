"""`premblyd unsettled`: what Prembly is asked about."""

from pathlib import Path

from tests.support.commands import json_of


def test_what_is_pending_is_listed_and_filtered(config: Path) -> None:
    newest, *_ = rows = json_of(config, "unsettled")
    row = rows[-1]
    assert newest["id"] > row["id"]
    event = json_of(config, "show", row["event_id"])
    assert (event["outcome"], event["reference"]) == ("pending", row["reference"])
    assert event["awaited"] == [row]
    for options, found in (
        (["--state", "waiting"], rows),
        (["--state", "given_up"], []),
        (["--reference", row["reference"]], [row]),
        (["--limit", "1"], [newest]),
        (["--since", "2100-01-01"], []),
    ):
        assert json_of(config, "unsettled", *options) == found
