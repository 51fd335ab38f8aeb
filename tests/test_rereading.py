"""Events of a premblyd that did not look whether a body agrees with itself, read anew before a hook
runs for them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from premblyd.config.load import parse_config
from premblyd.config.models import Action
from premblyd.config.secrets import SecretPlaces
from premblyd.databases import DatabaseAddress
from premblyd.model.states import AttemptOutcome
from premblyd.prembly import events
from premblyd.prembly.payload import Outcome
from premblyd.queue.jobs import Job, Result
from premblyd.rereading import UNREADABLE, Rereading
from tests.support.commands import record, recorded_in, run
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.database import changing, rows
from tests.support.dispatching import Dispatching
from tests.support.jobs import action, job, told
from tests.support.prembly_api import PremblyApi
from tests.support.rows import for_each

OLD: dict[str, Any] = {  # as 0.2.0 stored it
    "type": "verification.direct",
    "response_code": "00",
    "verification_status": "VERIFIED",
    "outcome": Outcome.VERIFIED,
    "reference": "r-1",
    "face_match": None,
    "doubt": None,
}
ACTIVATE = action("activate", when="outcome == 'verified'")


def body(**more: Any) -> bytes:
    verification = {"status": "VERIFIED", "reference": "r-1"}
    return json.dumps({"response_code": "00", "verification": verification, **more}).encode()


FAILED_FACE = body(face_data={"Status": "failed"})


def rereading(*actions: Action, fields: str = "{}") -> Rereading:
    path = Path("/nowhere/premblyd.yaml")
    text = (
        "database: sqlite:///x.db\n"
        f"endpoints: [{{name: prembly, path: /p, keys: {{live: a-key}}, fields: {fields}}}]\n"
        "actions: []\n"
    )
    config = parse_config(text, path, SecretPlaces(path.parent, {}))
    return Rereading(config.model_copy(update={"actions": actions}))


def old(body: bytes, **changes: Any) -> Job:
    return job(body, **{**OLD, **changes})


def test_what_has_no_body_any_more_is_not_read_anew() -> None:
    """An empty body would say another thing than was stored, and the hook would not run."""
    emptied = old(b"", doubt="", has_body=False)
    assert rereading(ACTIVATE).job(ACTIVATE, emptied) == emptied
    not_verified = old(b"", outcome=Outcome.NOT_VERIFIED, has_body=False)
    page = action("page", when="outcome == 'not_verified'")
    assert rereading(page).job(page, not_verified) == not_verified


def test_verified_that_nobody_can_look_into_any_more_runs_nothing() -> None:
    result = rereading(ACTIVATE).job(ACTIVATE, old(b"", has_body=False))
    assert isinstance(result, Result)
    assert (result.outcome, result.final, result.error) == ("failed", True, UNREADABLE)


def test_what_is_doubted_now_runs_nothing_that_wants_verified() -> None:
    result = rereading(ACTIVATE).job(ACTIVATE, old(FAILED_FACE))
    assert isinstance(result, Result)
    assert (result.outcome, result.final) == (AttemptOutcome.FAILED, True)
    assert result.error == (
        "its body says another outcome and face_match than was stored (doubt: face), so"
        " `when` is false: outcome == 'verified'"
    )


def test_an_action_that_takes_it_all_the_same_gets_what_the_body_says() -> None:
    log = action("log")
    found = rereading(log).job(log, old(FAILED_FACE))
    assert isinstance(found, Job)
    verdict = found.event.verdict
    assert (verdict.outcome, verdict.face_match, verdict.doubt) == (Outcome.UNKNOWN, False, "face")
    assert verdict.reference == "r-1"


def test_what_agrees_is_run_even_if_the_action_has_changed_since() -> None:
    """An action was chosen when the event came; only another reading chooses again."""
    narrowed = action("activate", "01", when="outcome == 'pending'")
    found = rereading(narrowed).job(narrowed, old(body()))
    assert isinstance(found, Job)
    assert (found.event.verdict.outcome, found.event.verdict.doubt) == (Outcome.VERIFIED, "")


def test_the_places_of_the_endpoint_count() -> None:
    elsewhere = rereading(ACTIVATE, fields="{face_match: data.our_check}")
    assert isinstance(elsewhere.job(ACTIVATE, old(FAILED_FACE)), Job)
    denied = body(data={"our_check": "mismatch"})
    assert isinstance(elsewhere.job(ACTIVATE, old(denied)), Result)


@for_each(("face", "kind"), [(True, Job), ("failed", Result)])
def test_an_answer_of_prembly_is_read_as_one(face: Any, kind: type) -> None:
    inner = json.loads(body(face_data={"status": face}))
    answer = {"status": True, "message": "found", "data": inner}
    stored = old(json.dumps(answer).encode(), type=events.STATUS, face_match=face is True)
    stored = replace(stored, event=replace(stored.event, verified_by=events.STORED_BY))
    assert isinstance(rereading(ACTIVATE).job(ACTIVATE, stored), kind)


def test_a_further_attempt_keeps_what_prembly_confirmed() -> None:
    """The body is silent about the face, of which Prembly's answer said yes at the first one."""
    faces = action("activate", when="face_match == `true`", confirm="true")
    stored = old(body(), face_match=True)
    confirmed = replace(stored, is_confirmed=True, confirmed_fields=("outcome", "face_match"))
    found = rereading(faces).job(faces, confirmed)
    assert isinstance(found, Job)
    assert found.event.verdict.face_match is True
    by_an_older_one = replace(stored, is_confirmed=True)  # that kept no facts
    assert isinstance(rereading(faces).job(faces, by_an_older_one), Result)


async def test_the_dispatcher_reads_anew_what_a_replay_queues(place: DatabaseAddress) -> None:
    read_anew = rereading(ACTIVATE).job
    async with Dispatching(place, ACTIVATE, read_anew=read_anew) as at:
        await at.add("activate", body=FAILED_FACE, **OLD)
        await at.until_states(dead=1)
        assert at.shell.runs == []
        await at.add("activate", body=body(), **OLD)
        await at.until_states(dead=1, succeeded=1)
        at.replay(1)
        await at.until(lambda: len(at.attempts("id")) == 3)
        await at.until_states(dead=1, succeeded=1)
        assert [run.body for _, run in at.shell.runs] == [body()]
    [(error,)] = rows(place, "SELECT last_error FROM delivery WHERE id = 1")
    assert error.startswith("its body says another outcome and face_match than was stored")


@pytest.mark.parametrize("doubt", [None, ""])
async def test_whoever_stored_it_it_is_read_again_before_prembly_is_asked(
    place: DatabaseAddress, api: PremblyApi, doubt: str | None
) -> None:
    """Its rules may have been others. The same goes for what Prembly answered then."""
    api.know("r-000001")
    asking = action("asking", when="outcome == 'verified'", confirm="true")
    stored = OLD | {"doubt": doubt, "reference": "r-000001"}
    answer = json.dumps({"data": json.loads(FAILED_FACE)}).encode()
    of_prembly = stored | {"verified_by": events.STORED_BY, "type": events.STATUS}
    read_anew = rereading(asking).job
    async with Dispatching(place, asking, read_anew=read_anew, prembly=api.settings()) as at:
        await at.add("asking", body=FAILED_FACE, **stored)
        await at.add("asking", body=answer, **of_prembly)
        await at.until_states(dead=2)
        assert api.asked("r-000001") == 0
        await at.add("asking", body=body(face_data={"Status": "matched"}), **stored)
        await at.until_states(dead=2, succeeded=1)
        [(_, run)] = at.shell.runs
        assert (told(run, "FACE_MATCH"), api.asked("r-000001")) == (True, 1)
    errors = rows(place, "SELECT last_error FROM delivery WHERE state = 'dead'")
    assert all("(doubt: face)" in error for (error,) in errors), errors


async def test_what_this_premblyd_stored_runs_without_confirm_as_it_was_chosen(
    place: DatabaseAddress,
) -> None:
    read_anew = rereading(ACTIVATE).job
    async with Dispatching(place, ACTIVATE, read_anew=read_anew) as at:
        await at.add("activate", body=FAILED_FACE, **OLD | {"doubt": ""})
        await at.until_states(succeeded=1)


def test_a_replay_for_a_new_action_reads_old_events_anew(tmp_path: Path) -> None:
    config = record(tmp_path)
    new = shell("greet", "true", when="outcome == 'verified'")
    changed = json.loads(config.read_text())
    changed["actions"].append(new)
    config.write_text(json.dumps(changed))
    [doubted] = rows(recorded_in(config), "SELECT id FROM event WHERE doubt <> '' LIMIT 1")
    with changing(recorded_in(config)) as database:
        database.execute("UPDATE event SET doubt = NULL, outcome = 'verified', face_match = NULL")
    done = run("replay", doubted[0], "--action", "greet", "--new", "--config", config)
    assert "Queued 0 deliveries." in done.out
    assert "`when` is false: outcome == 'verified'" in done.out


def test_the_daemon_reads_anew_what_waits_since_before_its_upgrade(tmp_path: Path) -> None:
    """In a daemon, since only that one puts the dispatcher and the rules together."""
    once = {"attempts": 1}
    activate = shell("activate", "touch activated", when="outcome == 'verified'", retry=once)
    with Premblyd(tmp_path, actions=[activate]) as daemon:
        daemon.start()
        daemon.send(FAILED_FACE)
        with changing(daemon.place) as database:
            database.execute("UPDATE event SET doubt = NULL, outcome = 'verified'")
            database.execute(
                "INSERT INTO delivery (event_id, action, state, due_at_ms, attempts_left,"
                " created_at_ms) VALUES (1, 'activate', 'pending', 1, 1, 1)"
            )
        daemon.wait_for_rows([("dead",)], "SELECT state FROM delivery")
        [(error,)] = daemon.rows("SELECT last_error FROM delivery")
    assert "(doubt: face)" in error
    assert not (tmp_path / "activated").exists()
