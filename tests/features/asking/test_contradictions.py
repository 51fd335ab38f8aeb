"""What Prembly contradicted is found in every list, and is replayed only by who says so."""

import re
from pathlib import Path

import pytest

from tests.support.commands import ACTIONS, json_of, record, recorded_in, run
from tests.support.console import CONSOLE, signed_in
from tests.support.daemon import Premblyd
from tests.support.database import by_hand, changing

ASKED = """INSERT INTO inquiry (at_ms, purpose, event_id, delivery_id, result, duration_ms, error)
    SELECT ?, 'confirm', event_id, id, 'contradicted', 5, 'Prembly says otherwise'
    FROM delivery WHERE id = ?"""
NEWEST_DEAD = """SELECT max(delivery.id), max(delivery.event_id) FROM delivery
    JOIN event ON event.id = delivery.event_id
    WHERE state = 'dead' AND action = 'activate-customer' AND outcome = 'verified'"""


@pytest.fixture(name="config")
def make_config(tmp_path: Path) -> Path:
    return record(tmp_path)


@pytest.fixture(name="forged")
def contradict(config: Path) -> tuple[int, int]:
    """A dead delivery that Prembly contradicted, and its event."""
    with changing(recorded_in(config)) as database:
        [(delivery, event)] = database.execute(NEWEST_DEAD).fetchall()
        [(at_ms,)] = database.execute("SELECT max(received_at_ms) FROM event").fetchall()
        database.execute(ASKED, [at_ms + 1000, delivery])
    return delivery, event


def test_lists_find_what_prembly_contradicted(config: Path, forged: tuple[int, int]) -> None:
    delivery, event = forged
    assert [row["id"] for row in json_of(config, "events", "--contradicted")] == [event]
    deliveries = json_of(config, "deliveries", "--contradicted", "--state", "dead")
    assert [row["id"] for row in deliveries] == [delivery]
    assert {row["id"]: row["contradicted"] for row in json_of(config, "events")}[event] is True
    assert sum(row["contradicted"] for row in json_of(config, "events", "--limit", 99)) == 1
    printed = run("events", "--config", config).out
    assert re.search(rf"^{event} .*contradicted \(said verified\)", printed, re.MULTILINE)
    assert json_of(config, "show", event)["contradicted"] is True
    assert "Prembly contradicts it" in run("show", event, "--config", config).out


def test_what_was_confirmed_later_is_no_more(config: Path, forged: tuple[int, int]) -> None:
    delivery, event = forged
    by_hand(
        recorded_in(config),
        "INSERT INTO confirmation (delivery_id, at_ms, facts)"
        " SELECT ?, max(at_ms), '{}' FROM inquiry",
        delivery,
    )
    assert json_of(config, "events", "--contradicted") == []
    assert json_of(config, "show", event)["contradicted"] is False


@pytest.mark.parametrize(
    "selection",
    [
        ("--delivery", "{delivery}"),
        ("--dead",),
        ("{event}",),
        ("--dead", "--action", "activate-customer", "--since", "300d"),
    ],
    ids=str,
)
def test_a_replay_leaves_it_alone_unless_it_is_named(
    config: Path, forged: tuple[int, int], selection: tuple[str, ...]
) -> None:
    delivery, event = forged
    words = [each.format(delivery=delivery, event=event) for each in selection]

    def queued(*more: str) -> list[int]:
        plan = json_of(config, "replay", *words, "--dry-run", *more)
        left = plan["left_alone"].get("Prembly contradicted it", 0)
        assert left == (0 if more else 1 + ("{event}" in selection))
        return [row["id"] for row in plan["would_queue"]]

    assert delivery not in queued()
    assert delivery in queued("--contradicted")


def test_no_new_delivery_is_made_for_it(config: Path, forged: tuple[int, int]) -> None:
    _, event = forged
    asked = ("replay", event, "--action", "page-operations", "--new", "--dry-run")
    by_hand(recorded_in(config), "UPDATE event SET response_code = '02' WHERE id = ?", event)
    plan = json_of(config, *asked)
    assert (plan["would_queue"], plan["left_alone"]) == ([], {"Prembly contradicted it": 1})
    assert json_of(config, *asked, "--contradicted")["would_queue"] != []


@pytest.mark.process
def test_the_console_shows_and_asks_before_it_replays(
    config: Path, forged: tuple[int, int]
) -> None:
    """A daemon of its own: what is replayed is not there for other tests."""
    delivery, event = forged
    place = recorded_in(config)
    with Premblyd(config.parent, place=place, actions=ACTIONS, console=CONSOLE) as daemon:
        own = signed_in(daemon.start())
        page = own.get("/events?contradicted=yes").text
        assert "<h1>Events that Prembly contradicted</h1>" in page
        assert re.findall(r'data-id="(\d+)"', page) == [str(event)]
        assert "o-verified" not in page
        dead = own.get("/dead?contradicted=yes")
        assert re.findall(r'data-id="(\d+)"', dead.text) == [str(delivery)]
        assert 'name="delivery"' not in dead.text, "no box to choose it by"
        shown = own.get(f"/events/{event}").text
        assert "o-verified" not in shown
        assert "Run the hook anyway" in shown

        replay = f"/deliveries/{delivery}/replay"
        refused = own.post(f"{replay}.json")
        assert (refused.status, "contradicted" in refused.json["error"]) == (400, True)
        assert own.post("/dead/replay.json", {"delivery": [delivery]}).status == 400
        assert own.post(f"{replay}.json", {"contradicted": "yes"}).json["done"] == 1
