"""Which actions another configuration would have chosen for the events of the record: compared with
the deliveries that are there, and decided for what is there and for what is gone."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.config.load import parse_config
from premblyd.config.models import Config
from premblyd.config.routing import Routing
from premblyd.config.secrets import SecretPlaces
from premblyd.features.tryout.rehearsal import Compared, Difference, rehearse
from premblyd.prembly import payload
from premblyd.queue.inbox import NewDelivery
from premblyd.record import queries
from premblyd.store.connections import connect_read_only
from premblyd.store.states import RemovedParts
from tests.support.commands import ACTIONS, Ran, json_of, run
from tests.support.configuration import configuration, shell
from tests.support.erasing import forget
from tests.support.store import Store, new_event

VERIFIED, OTHER = "outcome == 'verified'", "outcome != 'verified'"


# The command.


def write_new(config: Path, *actions: dict[str, Any], **changes: Any) -> Path:
    """Write another configuration beside the present one, with these actions."""
    settings = json.loads(config.read_text()) | {"actions": list(actions)} | changes
    new = config.with_name("new.yaml")
    new.write_text(json.dumps(settings, indent=1))
    return new


def changed(name: str, **changes: Any) -> list[dict[str, Any]]:
    return [each | changes if each["name"] == name else each for each in ACTIONS]


def command(config: Path, new: Path, *options: object) -> Ran:
    return run("rehearse", new, "--config", config, *options)


def test_the_same_configuration_differs_in_nothing(config: Path) -> None:
    done = command(config, write_new(config, *ACTIONS), "--json")
    assert (done.code, done.err) == (0, "")
    exact = json.loads(done.out)
    assert exact["events"] == len(json_of(config, "events", "--limit", 1000))
    assert exact["differences"] == []


def test_the_events_behind_each_number_are_those_that_differ(config: Path) -> None:
    new = write_new(config, *changed("activate-customer", when=OTHER))
    done = command(config, new, "--json")
    assert (done.code, done.err) == (3, "")
    exact = json.loads(done.out)
    found: dict[str, set[int]] = {"more": set(), "fewer": set()}
    for figure in exact["differences"]:
        assert figure["action"] == "activate-customer"
        found[figure["difference"]] |= set(figure["event_ids"])
    listed = json_of(config, "events", "--limit", 1000, "--code", "00")
    verified = {each["id"] for each in listed if each["outcome"] == "verified"}
    assert found == {"fewer": verified, "more": {each["id"] for each in listed} - verified}
    [row] = [each for each in exact["actions"] if each["action"] == "activate-customer"]
    assert (row["fewer"], row["more"]) == (len(verified), len(listed) - len(verified))
    told = command(config, new).out
    assert f"{len(verified)} fewer: `when` is false: {OTHER}; events" in " ".join(told.split())


def test_mistakes_in_the_new_one_are_told_as_check_tells_them_and_no_secret_is_read(
    config: Path,
) -> None:
    new = write_new(config, {"name": "x", "response_codes": ["00"], "shel": "true"})
    done, checked = command(config, new), run("check", "--config", new)
    assert (done.code, done.err) == (78, checked.err)
    assert "did you mean `shell`?" in done.err
    hook = {"url": {"file": "not-there"}}
    new = write_new(config, *ACTIONS, {"name": "x", "response_codes": ["none"], "http": hook})
    assert command(config, new, "--json").code == 0


def parsed(folder: Path, actions: Sequence[dict[str, Any]], **changes: Any) -> Config:
    text = json.dumps(configuration(actions=actions, **changes))
    return parse_config(text, folder / "premblyd.yaml", SecretPlaces(folder, {}))


# Decided by what is in the record.


class Recorded:
    """A record, and what a configuration would have done with it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.present: Config | None = None

    def use(self, *actions: dict[str, Any], **changes: Any) -> None:
        """Have these actions in the present configuration."""
        self.present = parsed(self.folder, actions, **changes)

    def add(self, body: dict[str, Any], state: str = "succeeded", **changes: Any) -> int:
        """Store a webhook with the deliveries that the present configuration plans for it, all of
        which come to end so. Return its number."""
        assert self.present is not None
        text = json.dumps(body).encode()
        verdict = changes.pop("verdict", None) or payload.read(text)
        fields = {name: getattr(verdict, name) for name in payload.Verdict.__slots__}
        webhook = new_event(text, **fields | changes)
        actions = Routing(self.present.actions).actions_for(webhook)
        deliveries = [NewDelivery(action.name, 3) for action in actions]
        added = self.store.wait(self.store.inbox.add(webhook, deliveries))
        over = f"state = '{state}', due_at_ms = NULL, finished_at_ms = created_at_ms"
        self.store.by_hand(f"UPDATE delivery SET {over} WHERE event_id = {added.event_id}")
        return added.event_id

    def rehearse(
        self, *actions: dict[str, Any], since: int = 0, **changes: Any
    ) -> list[list[Compared]]:
        new = parsed(self.folder, actions, **changes)
        with closing(connect_read_only(self.store.place)) as record:
            return list(rehearse(record, new, since))

    def differences(self, *actions: dict[str, Any], **changes: Any) -> list[Difference]:
        return [each.difference for of in self.rehearse(*actions, **changes) for each in of]


@pytest.fixture(name="recorded")
def make_recorded(store: Store, tmp_path: Path) -> Recorded:
    return Recorded(store, tmp_path)


def verified(reference: str = "ref-0001", **more: Any) -> dict[str, Any]:
    verification = {"status": "VERIFIED", "reference": reference}
    return {"response_code": "00", "verification": verification, **more}


PLAIN = shell("crm", "true", "00")


def test_what_once_has_skipped_was_chosen_too(recorded: Recorded) -> None:
    recorded.use(PLAIN)
    recorded.add(verified(n=1))
    recorded.add(verified(n=2), "skipped")
    assert recorded.differences(PLAIN) == [Difference.NONE] * 2
    assert recorded.differences(shell("crm", "true", "01")) == [Difference.FEWER] * 2


def test_a_body_is_read_where_the_new_one_says_that_the_fields_are(recorded: Recorded) -> None:
    recorded.use(PLAIN)
    recorded.add(verified(elsewhere="07"))
    moved = {"fields": {"response_code": "elsewhere"}}
    assert recorded.differences(PLAIN, endpoint=moved) == [Difference.FEWER]
    assert recorded.differences(shell("crm", "true", "07"), endpoint=moved) == [Difference.NONE]


def test_an_event_of_an_endpoint_that_is_no_more_is_for_nothing(recorded: Recorded) -> None:
    recorded.use(PLAIN)
    recorded.add(verified(), endpoint="former")
    [[fewer]] = recorded.rehearse(PLAIN)
    assert (fewer.difference, fewer.why) == (Difference.FEWER, "there is no endpoint former")


def test_of_who_was_erased_nothing_is_said_but_by_type_and_code(recorded: Recorded) -> None:
    recorded.use(PLAIN)
    recorded.add(verified())
    forget(recorded.store, "ref-0001")
    assert recorded.differences(PLAIN | {"when": VERIFIED}) == [Difference.UNSAID]
    assert recorded.differences(shell("crm", "true", "01")) == [Difference.FEWER]


def test_of_a_body_that_was_removed_what_is_left_decides(recorded: Recorded) -> None:
    recorded.use(PLAIN)
    recorded.add(verified())
    recorded.store.by_hand(
        "UPDATE event SET body = NULL, removed_parts = ?", str(RemovedParts.BODY)
    )
    assert recorded.differences(PLAIN) == [Difference.NONE]
    assert recorded.differences(PLAIN | {"when": "body.n"}) == [Difference.UNSAID]
    assert recorded.differences(shell("crm", "true", "01")) == [Difference.FEWER]


def test_what_is_removed_while_it_is_read_is_left_out(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded.use(PLAIN)
    removed, kept = recorded.add(verified(n=1)), recorded.add(verified(n=2))
    read = queries.tuples

    def remove(*asked: Any) -> list[tuple[Any, ...]]:
        found = read(*asked)
        for table, column in (("delivery", "event_id"), ("event", "id")):
            recorded.store.by_hand(f"DELETE FROM {table} WHERE {column} = {removed}")
        return found

    monkeypatch.setattr(queries, "tuples", remove)
    [[left]] = recorded.rehearse(PLAIN)
    assert (left.event_id, left.difference) == (kept, Difference.NONE)
