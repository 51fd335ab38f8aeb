"""What another configuration would have done with the events of the record: compared with what a
daemon did, and decided for what is there and for what is gone."""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from premblyd.config.load import parse_config
from premblyd.config.models import Config
from premblyd.config.routing import Routing
from premblyd.config.secrets import SecretPlaces
from premblyd.features.tryout import deciding
from premblyd.features.tryout.deciding import AGAINST_IT, NOT_AWAITED, WOULD_ASK, Does
from premblyd.features.tryout.rehearsal import (
    PERHAPS_BEFORE,
    RAN_BEFORE,
    Compared,
    Difference,
    Rehearsed,
    rehearse,
)
from premblyd.prembly import bodies, events, payload, samples
from premblyd.queue.inbox import NewDelivery
from premblyd.record import queries
from premblyd.store.connections import connect_read_only
from premblyd.store.states import RemovedParts
from tests.support.commands import ACTIONS, PAYLOADS, Ran, json_of, run
from tests.support.configuration import configuration, shell
from tests.support.daemon import Premblyd
from tests.support.erasing import forget
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store, new_event

API = {"url": "https://prembly.example", "api_key": "hush-api-key"}
UNFINISHED = "SELECT count(*) FROM delivery WHERE finished_at_ms IS NULL"
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
    assert (exact["differing"], exact["differences"]) == (0, [])


def test_the_events_behind_each_number_are_those_that_differ(config: Path) -> None:
    new = write_new(config, *changed("activate-customer", when=OTHER))
    done = command(config, new, "--json")
    assert (done.code, done.err) == (3, "")
    exact = json.loads(done.out)
    found: dict[str, set[int]] = {"more": set(), "fewer": set()}
    for figure in exact["differences"]:
        ids = figure["event_ids"]
        assert (figure["action"], figure["count"]) == ("activate-customer", len(ids))
        found[figure["difference"]] |= set(ids)
    listed = json_of(config, "events", "--limit", 1000, "--code", "00")
    verified = {each["id"] for each in listed if each["outcome"] == "verified"}
    assert found == {"fewer": verified, "more": {each["id"] for each in listed} - verified}
    [row] = [each for each in exact["actions"] if each["action"] == "activate-customer"]
    assert (row["fewer"], row["more"]) == (len(verified), len(listed) - len(verified))
    assert exact["differing"] == len(listed)


def test_one_event_is_told_of_with_its_reasons(config: Path) -> None:
    new = write_new(config, *changed("activate-customer", when=OTHER))
    done = command(config, new, "--event", 1)
    assert (done.code, done.err) == (3, "")
    assert "activate-customer: dead in the record, does not run (fewer)" in done.out
    assert f"    `when` is false: {OTHER}" in done.out
    assert "archive: succeeded in the record, runs (same)" in done.out
    missing = command(config, new, "--event", 1000)
    assert (missing.code, missing.out) == (1, "")
    assert "There is no event 1000 since" in missing.err


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


# Equal to what a daemon did.


def generated(count: int) -> Iterator[bytes]:
    """Yield bodies of all shapes, many of them of the same few verifications."""
    chance = random.Random(20)
    shapes = [samples.sample(name) for name in samples.NAMES]
    shapes += [path.read_bytes() for path in PAYLOADS]
    words, codes = ['"NOT-VERIFIED"', '"PENDING"', "true"], ['"01"', '"02"', '""', '"42"', "null"]
    for number in range(count):
        document = bodies.parse(chance.choice(shapes)) or {}
        verdict = payload.read(json.dumps(document).encode())
        text = json.dumps(document | {"number": number})
        if verdict.reference and chance.random() < 0.8:
            text = text.replace(verdict.reference, f"ref-{chance.randrange(25):04}-generated")
        for old, new in (('"VERIFIED"', words), ('"00"', codes)):
            if chance.random() < 0.3:
                text = text.replace(old, chance.choice(new))
        yield text.encode()


def of_all_kinds() -> list[dict[str, Any]]:
    """Return actions that look at all that an action can look at."""
    about = ["sdk.session", "verification.*"]
    return [
        shell("activate", "true", "00", "missing", types=about, when=VERIFIED, once="reference"),
        shell("photo", "true", when="body.number && (kind == 'sdk' || face_match)"),
        shell("transactions", "true", types=["transaction.*"], once="reference"),
        shell("others", "true", "default", types=about, order="reference"),
        shell("open", "true", "02", "03", when="outcome == 'pending' || response_code == '02'"),
        shell("fails", "true", when="length(body.number) > `1`"),
        shell("settled", "true", "00", "01", types=about, once="reference"),
    ]


@pytest.mark.process
def test_it_is_equal_to_what_a_daemon_with_that_configuration_did(tmp_path: Path) -> None:
    """A daemon decides; a second one, with the same webhooks, made the record."""
    was = [
        shell("activate", "true", "00", types=["sdk.session"], once="reference"),
        shell("photo", "true", "00", "01"),
        shell("settled", "false", "*", retry={"attempts": 1}, when="outcome == 'pending'"),
        shell("gone", "true", "00"),
    ]
    webhooks = list(generated(80))
    done: list[tuple[Any, Config]] = []
    for name, actions in (("one", was), ("two", of_all_kinds())):
        folder = tmp_path / name
        folder.mkdir()
        with Premblyd(folder, actions=actions) as daemon:
            daemon.start()
            for body in webhooks:
                assert daemon.send(body).status == 200
            daemon.wait_for_rows([(0,)], UNFINISHED)
            rows = daemon.rows("SELECT event_id, action, state FROM delivery ORDER BY id")
            [(count,)] = daemon.rows("SELECT count(*) FROM event")
            assert count > 70
            done.append((daemon.place, parsed(folder, actions)))
    did = {}
    for event_id, action, state in rows:
        did[event_id, action] = Does.SKIPPED if state == "skipped" else Does.RUNS
    assert Does.SKIPPED in did.values()
    (place, present), (_, new) = done
    with closing(connect_read_only(place)) as record:
        played = list(rehearse(record, new, present, deciding.span(record, 0)))
    does = {
        (event.event_id, each.action): each.does
        for event in played
        for each in event.actions
        if each.does is not Does.NOT
    }
    assert does == did


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

    def confirm(self, event_id: int = 1, **facts: Any) -> None:
        """Have the record say that Prembly's answer has confirmed what runs for an event."""
        own = {"response_code": "00", "outcome": "verified", "verification_status": "VERIFIED"}
        stated = {name: value for name, value in (own | facts).items() if value is not None}
        of_event = "SELECT id, 1, ? FROM delivery WHERE event_id = ?"
        self.store.by_hand("DELETE FROM confirmation")
        insert = f"INSERT INTO confirmation (delivery_id, at_ms, facts) {of_event}"
        self.store.by_hand(insert, json.dumps(stated), event_id)

    def rehearse(self, *actions: dict[str, Any], since: int = 0, **changes: Any) -> list[Rehearsed]:
        new = parsed(self.folder, actions, **changes)
        with closing(connect_read_only(self.store.place)) as record:
            return list(rehearse(record, new, self.present, deciding.span(record, since)))

    def only(self, *actions: dict[str, Any], **changes: Any) -> list[Compared]:
        """Return what becomes of each action of each event."""
        return [each for event in self.rehearse(*actions, **changes) for each in event.actions]

    def differences(self, *actions: dict[str, Any], **changes: Any) -> list[Difference]:
        return [each.difference for each in self.only(*actions, **changes)]


@pytest.fixture(name="recorded")
def make_recorded(store: Store, tmp_path: Path) -> Recorded:
    return Recorded(store, tmp_path)


def verified(reference: str = "ref-0001", **more: Any) -> dict[str, Any]:
    verification = {"status": "VERIFIED", "reference": reference}
    return {"response_code": "00", "verification": verification, **more}


ONCE = shell("crm", "true", "00", once="reference")
PLAIN = shell("crm", "true", "00")
CONFIRMED = PLAIN | {"confirm": True}


def test_with_once_the_first_event_of_a_reference_runs_and_the_others_are_skipped(
    recorded: Recorded,
) -> None:
    recorded.use(PLAIN)
    for number in range(3):
        recorded.add(verified(n=number))
    recorded.add(verified("ref-0002"))
    found = recorded.only(ONCE)
    assert [each.does for each in found] == [Does.RUNS, Does.SKIPPED, Does.SKIPPED, Does.RUNS]
    assert (found[1].difference, found[1].why) == (Difference.FEWER, f"{RAN_BEFORE} (1)")


def test_with_once_what_ran_before_the_time_counts_too(recorded: Recorded) -> None:
    recorded.use(PLAIN)
    recorded.add(verified(n=1), received_at_ms=NOW_MS - 1_000_000_000)
    recorded.add(verified(n=2))
    [event] = recorded.rehearse(ONCE, since=NOW_MS)
    assert (event.event_id, event.actions[0].does) == (2, Does.SKIPPED)


def test_with_once_a_hook_that_never_succeeded_leaves_it_to_the_next_event(
    recorded: Recorded,
) -> None:
    recorded.use(ONCE)
    recorded.add(verified(n=1), state="dead")
    recorded.add(verified(n=2))
    assert recorded.differences(ONCE) == [Difference.NONE, Difference.NONE]


def test_with_once_an_event_that_a_later_one_overtook_is_skipped_as_it_was(
    recorded: Recorded,
) -> None:
    recorded.use(ONCE)
    first = recorded.add(verified(n=1), state="skipped")
    recorded.add(verified(n=2))
    recorded.store.by_hand(f"UPDATE delivery SET ran_instead_id = 2 WHERE event_id = {first}")
    assert recorded.differences(ONCE) == [Difference.NONE, Difference.NONE]
    # Where the later one is not meant any more, the first runs.
    narrowed = ONCE | {"when": "body.n == `1`"}
    assert recorded.differences(narrowed) == [Difference.MORE, Difference.FEWER]


def test_another_hook_is_told_with_what_is_another(recorded: Recorded) -> None:
    recorded.use(PLAIN)
    recorded.add(verified())
    [found] = recorded.only(PLAIN | {"shell": "false", "timeout": "5s", "retry": {"attempts": 1}})
    assert (found.difference, found.why) == (Difference.OTHERWISE, "another timeout, shell, retry")


def test_what_the_present_configuration_does_already_is_told(recorded: Recorded) -> None:
    recorded.use(shell("crm", "true", "01"))
    recorded.add(verified())
    recorded.use(PLAIN)
    [found] = recorded.only(PLAIN)
    assert (found.difference, found.so_now) == (Difference.MORE, True)


def test_each_configuration_reads_a_body_where_it_says_that_the_fields_are(
    recorded: Recorded,
) -> None:
    recorded.use(shell("crm", "true", "01"))
    recorded.add(verified(code="01"))
    moved = {"fields": {"response_code": "code"}}
    [event] = recorded.rehearse(shell("crm", "true", "01"), endpoint=moved)
    [found] = event.actions
    assert (found.difference, found.so_now) == (Difference.MORE, False)
    assert found.why == "today, response code 00 is not in [01]"


def test_an_event_of_an_endpoint_that_is_no_more_runs_nothing(recorded: Recorded) -> None:
    recorded.use(PLAIN)
    recorded.add(verified())
    [found] = recorded.only(PLAIN, endpoint={"name": "other"})
    assert (found.difference, found.why) == (Difference.FEWER, "there is no endpoint prembly")


def test_what_confirm_would_ask_of_prembly_cannot_be_said(recorded: Recorded) -> None:
    recorded.use(PLAIN, prembly=API)
    recorded.add(verified())
    [found] = recorded.only(CONFIRMED, prembly=API)
    assert (found.difference, found.why) == (Difference.UNSAID, WOULD_ASK)
    # Nor does it differ, where the present configuration would ask the same.
    recorded.use(CONFIRMED, prembly=API)
    assert recorded.differences(CONFIRMED, prembly=API) == [Difference.NONE]


@for_each(
    ("when", "difference", "words"),
    [
        ("outcome == 'verified' && user_ref != 'x'", Difference.NONE, ""),
        ("face_confidence > `90`", Difference.FEWER, "`when` is false for what Prembly's answer"),
        ("user_ref == 'u-1'", Difference.UNSAID, "does not state user_ref"),
        (OTHER, Difference.FEWER, "`when` is false"),
    ],
)
def test_what_prembly_has_answered_is_put_to_another_when(
    recorded: Recorded, when: str, difference: Difference, words: str
) -> None:
    recorded.use(CONFIRMED, prembly=API)
    recorded.add(verified(user_ref="u-1", face_data={"status": True, "confidence": 95}))
    recorded.confirm(reference="ref-0001", face_match=True, face_confidence=80)
    found = recorded.only(CONFIRMED | {"when": when}, prembly=API)[-1]
    assert (found.difference, words in found.why) == (difference, True)


def test_an_answer_that_was_kept_without_an_outcome_says_nothing_of_one(recorded: Recorded) -> None:
    recorded.use(CONFIRMED, prembly=API)
    recorded.add(verified())
    recorded.confirm(outcome=None, verification_status=None)
    [found] = recorded.only(CONFIRMED | {"when": VERIFIED}, prembly=API)
    assert (found.difference, "does not state outcome" in found.why) == (Difference.UNSAID, True)


def test_of_a_doubted_event_no_answer_that_was_kept_is_enough(recorded: Recorded) -> None:
    """What is kept of it is not all that the answer said."""
    recorded.use(CONFIRMED, prembly=API)
    recorded.add(verified(face_data={"status": False}))
    recorded.confirm(face_match=True)
    [found] = recorded.only(CONFIRMED | {"when": "user_ref != 'x'"}, prembly=API)
    assert (found.difference, found.why) == (Difference.UNSAID, WOULD_ASK)


def test_of_who_was_erased_nothing_is_said_but_by_type_and_code(recorded: Recorded) -> None:
    recorded.use(PLAIN)
    recorded.add(verified())
    forget(recorded.store, "ref-0001")
    assert recorded.differences(PLAIN) == [Difference.NONE]  # as now, whatever that is
    assert recorded.differences(PLAIN | {"when": VERIFIED}) == [Difference.UNSAID]
    assert recorded.differences(shell("crm", "true", "01")) == [Difference.FEWER]
    differences = recorded.differences(shell("other", "true", "00"))
    assert differences == [Difference.UNSAID, Difference.FEWER], "crm's run is gone"


def test_of_a_body_that_was_removed_what_is_left_decides(recorded: Recorded) -> None:
    recorded.use(PLAIN)
    recorded.add(verified())
    recorded.store.by_hand(
        "UPDATE event SET body = NULL, removed_parts = ?", str(RemovedParts.BODY)
    )
    assert recorded.differences(PLAIN | {"when": VERIFIED}) == [Difference.NONE]
    assert recorded.differences(PLAIN | {"when": OTHER}) == [Difference.FEWER]
    assert recorded.differences(PLAIN | {"when": "body.n"}) == [Difference.UNSAID]
    moved = {"fields": {"verification_status": "elsewhere"}}
    assert recorded.differences(PLAIN, endpoint=moved) == [Difference.UNSAID]


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
    [left] = recorded.rehearse(PLAIN)
    assert (left.event_id, left.differs) == (kept, False)


def test_an_answer_of_premblys_is_decided_beside_what_others_say(recorded: Recorded) -> None:
    action = shell("crm", "true", "00", types=["prembly.status"], when="face_match != `false`")
    asked: dict[str, Any] = {"prembly": API, "pending": {}}
    recorded.use(action, **asked)
    answer = replace(payload.read(json.dumps(verified()).encode()), type=events.STATUS)
    recorded.add(verified(), verified_by=events.STORED_BY, verdict=answer)
    wider = action | {"response_codes": ["00", "01"]}
    assert recorded.differences(wider, **asked) == [Difference.NONE]
    [found] = recorded.only(wider, prembly=API)
    assert (found.difference, found.why) == (Difference.UNSAID, NOT_AWAITED)
    recorded.add(verified(face_data={"status": False}))
    found = recorded.only(wider, **asked)[0]
    assert (found.difference, found.why) == (Difference.UNSAID, AGAINST_IT)


def test_what_may_have_run_before_makes_once_unsure(recorded: Recorded) -> None:
    recorded.use(PLAIN, prembly=API)
    recorded.add(verified(n=1))
    recorded.add(verified(n=2))
    recorded.confirm(2)
    found = recorded.only(ONCE | {"confirm": True}, prembly=API)
    assert [each.does for each in found] == [Does.UNSAID, Does.UNSAID]
    assert found[1].why == f"{PERHAPS_BEFORE} (1)"
