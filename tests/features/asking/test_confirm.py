"""Actions with `confirm`: their hooks run for what Prembly says too, and for nothing else. Against
a stand-in made from Prembly's pages."""

import itertools
import threading
from contextlib import closing
from typing import Any

import pytest

from premblyd.features.asking import agreement, answers, client, confirm
from premblyd.features.asking.confirm import Patience
from premblyd.ground import times
from premblyd.ground.databases import DatabaseAddress
from premblyd.prembly.events import STATUS, STORED_BY
from premblyd.prembly.payload import Outcome
from premblyd.queue.jobs import Result
from premblyd.record.operating import Operator
from premblyd.run import dispatcher
from premblyd.store.connections import connect_operator
from premblyd.store.states import AttemptOutcome
from tests.features.asking.questions import Confirming
from tests.support import prembly_api
from tests.support.database import changing, rows
from tests.support.dispatching import FakeRunner
from tests.support.erasing import forgetting
from tests.support.jobs import action, action_of, told
from tests.support.logs import Lines
from tests.support.prembly_api import PremblyApi, Shape

UUID = "0b7c9f1d-1111-4222-8333-44445555666a"
TRUE: dict[str, Any] = {
    "reference": UUID,
    "response_code": "00",
    "outcome": Outcome.VERIFIED,
    "user_ref": None,
}
ACTIVATE = action("activate", confirm="true", retry={"attempts": 3, "first_delay": "10ms"})
INQUIRIES = (
    "SELECT purpose, event_id, delivery_id, reference, result, http_status, error FROM inquiry"
)


def about(reference: str) -> dict[str, Any]:
    """Return what an event with this reference says, in a body of its own."""
    return TRUE | {"reference": reference, "body": reference.encode()}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm, "_FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(confirm, "_WAITS_S", (0.02,))
    monkeypatch.setattr(dispatcher, "POLL_S", 0.05)


class Work:
    """A record, and a stand-in for Prembly that is asked about its events."""

    def __init__(self, place: DatabaseAddress, api: PremblyApi) -> None:
        self.place, self.api = place, api

    def by(self, *actions: Any, runner: FakeRunner | None = None, **keys: Any) -> Confirming:
        """Return a dispatcher with these actions, or ACTIVATE, and Prembly's settings."""
        prembly = self.api.settings(**keys)
        return Confirming(self.place, *(actions or (ACTIVATE,)), runner=runner, prembly=prembly)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return rows(self.place, sql)


@pytest.fixture
def work(place: DatabaseAddress, api: PremblyApi) -> Work:
    return Work(place, api)


async def test_a_hook_runs_when_prembly_says_the_same(work: Work, lines: Lines) -> None:
    work.api.know(UUID)
    async with work.by() as at:
        await at.add("activate", **TRUE)
        await at.until_states(succeeded=1)
        ((_, run),) = at.shell.runs
    assert (run.vouched["confirmed"] is not None, told(run, "ATTEMPT")) == (True, 1)
    assert work.rows(INQUIRIES) == [("confirm", 1, 1, UUID, "confirmed", 200, None)]
    ((asked_at_ms, sha256),) = work.rows("SELECT at_ms, answer_digest FROM inquiry")
    confirmed = "SELECT at_ms, answer_digest FROM confirmation WHERE delivery_id = 1"
    assert work.rows(confirmed) == [(asked_at_ms, sha256)]
    log = "SELECT event_id, action, state, answer_digest, confirmed_at FROM confirm_log"
    ((*logged, confirmed_at),) = work.rows(log)
    assert logged == [1, "activate", "succeeded", sha256]
    assert times.from_iso(confirmed_at) == asked_at_ms
    assert work.rows("SELECT attempts_left FROM delivery") == [(2,)]
    assert len(sha256) == 64
    (answered,) = [line for line in lines if line["event"] == "inquiry.answered"]
    assert (answered["result"], answered["reference"]) == ("confirmed", UUID)
    assert answered["log_level"] == "info"


async def test_what_prembly_contradicts_runs_nothing_and_is_dead(work: Work, lines: Lines) -> None:
    work.api.know(UUID, status="NOT-VERIFIED")
    words = "Prembly's answer says outcome not_verified, the event verified"
    other = action("other", confirm="true")  # for the same event, and so by the same question
    async with work.by(ACTIVATE, other) as at:
        await at.add("activate", "other", **TRUE | {"user_ref": "victim"})
        await at.until_states(dead=2)
        assert at.shell.runs == []
    assert work.rows("SELECT last_error FROM delivery") == [(words,)] * 2
    assert work.rows("SELECT * FROM confirmation") == []
    assert sorted(work.rows(INQUIRIES)) == [
        ("confirm", 1, delivery, UUID, "contradicted", 200, words) for delivery in (1, 2)
    ]
    answered, _ = [line for line in lines if line["event"] == "inquiry.answered"]
    assert (answered["log_level"], answered["error"]) == ("warning", words)


async def test_of_who_was_erased_nothing_is_asked_and_no_hook_runs(work: Work) -> None:
    work.api.know(UUID)
    with closing(connect_operator(work.place)) as database:
        database.transact(forgetting(UUID))
    told_too = action("activate", confirm="true", erased="run")
    async with work.by(told_too) as at:
        await at.add("activate", **TRUE)
        await at.until_states(cancelled=1)
        assert at.delivery("last_error") == (confirm.ERASED,)
        assert at.shell.runs == []
    assert work.rows(INQUIRIES) == []


async def test_what_prembly_does_not_know_is_asked_for_again_and_then_dead(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four questions at least, and five minutes: by a clock that nobody sets."""
    work.api.fail(prembly_api.status(404))
    now_s = 1000.0
    monkeypatch.setattr(confirm, "_now_s", lambda: now_s)
    async with work.by() as at:
        await at.add("activate", **TRUE | {"received_at_ms": 1})  # the wall clock says nothing
        await at.until(lambda: work.api.asked() >= 6)
        assert at.delivery("state, attempts_left") in [("pending", 3), ("running", 3)]
        now_s += 299
        asked = work.api.asked()
        await at.until(lambda: work.api.asked() > asked + 1)
        assert at.states() != {"dead": 1}
        now_s += 2
        await at.until_states(dead=1)
        assert at.delivery("last_error") == (client.NOT_FOUND,)
        assert at.shell.runs == []


async def test_prembly_is_asked_four_times_at_least(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as after a suspend: the time is over, but the questions were not asked."""
    work.api.fail(prembly_api.status(404))
    monkeypatch.setattr(confirm, "_now_s", itertools.count(0, 1000).__next__)
    async with work.by() as at:
        await at.add("activate", **TRUE)
        await at.until_states(dead=1)
        assert (work.api.asked(), at.shell.runs) == (4, [])


async def test_a_restart_begins_the_time_anew(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [confirm.wait_s(asked) for asked in (1, 2, 3, 4, 5, 100)] == [20, 60, 240, 300, 300, 300]
    before, after = Patience(), Patience()
    now_s = 0.0
    monkeypatch.setattr(confirm, "_now_s", lambda: now_s)
    before.begin(1)
    now_s = 320.0
    after.begin(1)
    assert (before.is_over(1, 4), after.is_over(1, 4)) == (True, False)
    now_s = 621.0
    after.begin(1)
    assert after.is_over(1, 5)


async def test_while_the_key_is_refused_nothing_runs_and_a_mended_one_is_used(
    work: Work,
) -> None:
    work.api.know(UUID)
    work.api.fail(prembly_api.status(401), times=2)  # whether for the key is asked at once
    error = "HTTP 401: Prembly refuses the API key"
    async with work.by() as at:
        await at.add("activate", **TRUE)
        await at.until(lambda: at.attempts("outcome") and at.attempts("outcome")[0][0])
        (row,) = work.rows(f"{INQUIRIES} ORDER BY id LIMIT 1")
        assert (row[4], row[6]) == ("refused", error)
        (first,) = work.rows("SELECT outcome, error FROM attempt ORDER BY id LIMIT 1")
        assert first == ("interrupted", f"Prembly could not be asked: {error}")
        assert at.inquirer.wait_s > 100
        ((due_at_ms,),) = work.rows("SELECT due_at_ms FROM delivery")
        assert due_at_ms < times.now_ms() + 30_000, "not for as long as nothing is asked"
        at.inquirer.configure(work.api.settings(rate="999"))  # as a reload does
        at.dispatcher.wake()
        await at.until_states(succeeded=1)
        ((_, run),) = at.shell.runs
        assert told(run, "ATTEMPT") != 1
    assert work.rows("SELECT attempts_left FROM delivery") == [(2,)]


async def test_an_id_that_prembly_refuses_stops_no_other_and_is_given_up(
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    lines: Lines,
) -> None:
    """Whoever knows the public key can send the id of another account's verification."""
    now_s = 1000.0
    monkeypatch.setattr(confirm, "_now_s", lambda: now_s)
    forged = [f"forged-{number}" for number in range(3)]
    for reference in forged:
        work.api.fail(prembly_api.status(403), reference)
    async with work.by() as at:
        for reference in forged:
            await at.add("activate", **about(reference))
        await at.until(lambda: work.api.asked(forged[0]) >= 1)
        for reference in ("true-1", "true-2"):
            work.api.know(reference)
            await at.add("activate", **about(reference))
        await at.until(lambda: at.states().get("succeeded") == 2)
        await at.until(lambda: all(work.api.asked(each) > 2 * confirm.QUESTIONS for each in forged))
        assert "dead" not in at.states(), "five minutes are not over"
        now_s += confirm.GRACE_S
        await at.until_states(succeeded=2, dead=3)
        assert at.inquirer.wait_s == 0
    errors = work.rows("SELECT last_error FROM delivery WHERE state = 'dead'")
    assert set(errors) == {("Prembly refuses to answer for this verification",)}
    assert "refused" not in {result for (result,) in work.rows("SELECT result FROM inquiry")}
    assert "inquiry.refused" not in {line["event"] for line in lines}


async def test_prembly_down_piles_up_no_attempts_and_it_goes_on_when_prembly_does(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(client, "MAX_PAUSE_S", 0.02)
    references = [f"ref-{number}" for number in range(8)]
    for reference in references:
        work.api.know(reference)
    work.api.fail(prembly_api.status(500))
    async with work.by(ACTIVATE, action("plain")) as at:
        for reference in references:
            await at.add("activate", "plain", **about(reference))
        await at.until(lambda: at.states("plain") == {"succeeded": 8})  # delays no other action
        await at.until(lambda: work.api.asked() >= 6)
        asked = work.api.asked()
        tried = len(at.attempts("id")) - 8
        assert tried <= asked + 5 * ACTIVATE.concurrency.host
        states = at.states("activate")
        assert states.keys() <= {"pending", "running"}
        assert states["pending"] >= 4
        work.api.mend()
        await at.until_states(succeeded=16)
    assert {*work.rows("SELECT attempts_left FROM delivery")} == {(2,)}


async def test_an_answer_from_before_an_event_does_not_judge_it(work: Work) -> None:
    work.api.know(UUID, status="NOT-VERIFIED")
    async with work.by() as at:
        await at.add("activate", **TRUE)
        await at.until_states(dead=1)
        work.api.know(UUID)
        later_ms = times.now_ms() + 1
        await at.add("activate", **TRUE | {"body": b"later", "received_at_ms": later_ms})
        await at.until_states(dead=1, succeeded=1)
    assert work.api.asked() == 2


LEFT_BY_CONFIRM = """SELECT at_ms, answer_digest, facts, confirmed_key FROM delivery
    LEFT JOIN confirmation ON confirmation.delivery_id = delivery.id
    LEFT JOIN once_run ON once_run.delivery_id = delivery.id"""


@pytest.mark.parametrize("of_prembly", [{}, {"verified_by": STORED_BY, "type": STATUS}])
async def test_a_replay_runs_for_no_earlier_answer(work: Work, of_prembly: dict[str, Any]) -> None:
    """Nor does it for an answer that was stored as an event: Prembly may have changed its mind."""
    work.api.know(UUID)
    once = action("activate", confirm="true", once="reference")
    async with work.by(once) as at:
        await at.add("activate", **TRUE | of_prembly)
        await at.until_states(succeeded=1)
        assert None not in work.rows(LEFT_BY_CONFIRM)[0]
        assert work.api.asked() == (0 if of_prembly else 1)
        work.api.know(UUID, status="NOT-VERIFIED")
        at.replay(1)
        await at.until_states(dead=1)
        assert at.delivery("last_error") == (
            "Prembly's answer says outcome not_verified, the event verified",
        )
        assert work.rows(LEFT_BY_CONFIRM) == [(None,) * 4]
        work.api.know(UUID)
        at.replay(1)
        await at.until_states(succeeded=1)
        assert len(at.shell.runs) == 2
        assert None not in work.rows(LEFT_BY_CONFIRM)[0]


async def test_of_two_names_that_are_asked_at_once_one_runs_and_the_other_names_it(
    work: Work,
) -> None:
    ver, once = "ver_document_1", action("activate", confirm="true", once="reference")
    words = {"verification_status": "VERIFIED", "response_code": "00"}
    answer = {"status": True, "data": {"reference": UUID, "verification_id": ver, **words}}
    all_came = threading.Barrier(2)

    def answer_together(handler: Any) -> None:
        all_came.wait()
        handler.reply(answer)

    work.api.fail(answer_together, times=2)
    async with work.by(once) as at:
        await at.add("activate", **about(UUID))
        await at.add("activate", **about(ver))
        await at.until_states(succeeded=1, skipped=1)
        assert len(at.shell.runs) == 1
    ran = work.rows("SELECT id FROM delivery WHERE state = 'succeeded'")
    assert work.rows("SELECT ran_instead_id FROM delivery WHERE state = 'skipped'") == ran


async def test_what_waits_to_be_tried_again_is_asked_for_anew_when_it_is_made_due_now(
    work: Work,
) -> None:
    work.api.know(UUID)
    slow = action("activate", confirm="true", retry={"attempts": 3, "first_delay": "1h"})
    runner = FakeRunner(Result(outcome=AttemptOutcome.FAILED, error="exit status 1"))
    async with work.by(slow, runner=runner) as at:
        await at.add("activate", **TRUE)
        await at.until(lambda: runner.runs)
        await at.until_states(pending=1)
        work.api.know(UUID, status="NOT-VERIFIED")
        with closing(connect_operator(work.place)) as database:
            (change,) = Operator(actor="uid 0").make_due_now([1], at.clock.now_ms())
            assert database.transact(change) == 1
        at.dispatcher.wake()
        await at.until_states(dead=1)
        assert len(runner.runs) == 1


@pytest.mark.parametrize(
    "changed", [{"reference": None}, {"reference": "../logs"}, {"type": "transaction.processed"}]
)
async def test_what_can_not_be_asked_for_runs_nothing(work: Work, changed: dict[str, Any]) -> None:
    async with work.by() as at:
        await at.add("activate", **TRUE | changed)
        await at.until_states(dead=1)
        assert at.delivery("last_error") == (answers.NOTHING_TO_ASK_BY,)
        assert at.shell.runs == []
    assert (work.api.asked(), work.rows(INQUIRIES)) == (0, [])


async def test_a_session_is_asked_for_and_its_id_recorded_nowhere(work: Work, lines: Lines) -> None:
    work.api.know("r-1", session_id="sdk_session_1", shape=Shape.SESSION)
    async with work.by() as at:
        await at.add("activate", **TRUE | {"reference": None, "session_id": "sdk_session_1"})
        await at.until_states(succeeded=1)
    assert work.api.asked("sdk_session_1") == 1
    assert work.rows(INQUIRIES) == [("confirm", 1, 1, None, "confirmed", 200, None)]
    assert "sdk_session_1" not in str(lines)


async def test_premblys_own_answer_is_silent_about_no_no(work: Work) -> None:
    """Whatever came of its reference meanwhile, it must be enough together with that."""
    strict = action("activate", confirm="true", when="face_match != `false`")
    async with work.by(strict) as at:
        await at.add(body=b"another", **TRUE | {"outcome": Outcome.UNKNOWN, "face_match": False})
        silent = TRUE | {"face_match": None, "verified_by": STORED_BY, "type": STATUS}
        await at.add("activate", **silent)
        await at.until_states(dead=1)
        assert at.delivery("last_error") == (confirm.AGAINST_IT,)
        assert at.shell.runs == []
        await at.add("activate", body=b"yes", **silent | {"face_match": True})
        await at.until_states(dead=1, succeeded=1)


async def test_without_a_key_nothing_runs_unasked(place: DatabaseAddress) -> None:
    plain = action("plain")
    async with Confirming(place, ACTIVATE, plain) as at:
        await at.add("activate", "plain", **TRUE)
        await at.until(lambda: at.states("plain") == {"succeeded": 1})
        assert at.states("activate") == {"pending": 1}


OPEN: dict[str, Any] = TRUE | {"outcome": Outcome.PENDING, "response_code": "02"}


async def test_what_was_open_is_over_when_prembly_has_the_result(work: Work, lines: Lines) -> None:
    """Its answer is an event of its own, and whatever is to run, runs for that."""
    work.api.know(UUID)
    of_answers = action("of-answers", types=[STATUS])
    async with work.by(ACTIVATE, of_answers) as at:
        await at.add("activate", "activate", **OPEN)
        await at.until(lambda: at.states() == {"cancelled": 2, "succeeded": 2})
        ran = {(action_of(run), run.vouched["confirmed"] is not None) for _, run in at.shell.runs}
    assert ran == {("activate", True), ("of-answers", False)}
    states = "SELECT event_id, state, last_error FROM delivery ORDER BY id LIMIT 2"
    assert sorted(work.rows(states)) == [
        (1, "cancelled", words) for words in (agreement.SETTLED_SINCE, confirm.SETTLED_BEFORE)
    ]
    assert work.rows("SELECT delivery_id FROM confirmation WHERE delivery_id < 3") == []
    stored = "SELECT id, type, reference, outcome FROM event WHERE id > 1"
    ((event_id, *said),) = work.rows(stored)
    assert said == [STATUS, UUID, "verified"]
    results = work.rows("SELECT result, max(stored_event_id) FROM inquiry GROUP BY result")
    assert results == [("settled", event_id)]
    assert [line for line in lines if line["log_level"] in ("warning", "error")] == []


async def test_a_retry_gets_what_was_confirmed_before_the_first_attempt_and_asks_no_more(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.api.know(UUID, user_ref="u-1", face_match=True, shape=Shape.WEBHOOK)
    runner = FakeRunner(Result(outcome=AttemptOutcome.FAILED, error="exit status 1"))
    async with work.by(runner=runner) as at:
        await at.add("activate", **TRUE | {"face_match": None, "status": "own"})
        await at.until_states(dead=1)
    names = ("ATTEMPT", "USER_REF", "FACE_MATCH", "OUTCOME", "STATUS")
    assert [tuple(told(run, name) for name in names) for _, run in runner.runs] == [
        (number, "u-1", True, Outcome.VERIFIED, "true") for number in (1, 2, 3)
    ]
    fields = (
        "reference response_code status detail verification_status outcome user_ref face_match"
        " face_confidence"
    )
    assert {run.vouched["confirmed"] for _, run in runner.runs} == {tuple(fields.split())}
    assert work.api.asked() == 1


async def test_what_was_confirmed_and_changed_by_hand_runs_nothing(work: Work) -> None:
    work.api.know(UUID)
    async with work.by() as at:
        await at.add("activate", **TRUE)
        await at.until_states(succeeded=1)
        with changing(work.place) as connection:
            connection.execute("""UPDATE confirmation SET facts = '{"outcome": "yes"}'""")
            again = "state = 'pending', due_at_ms = 1, attempts_left = 1, finished_at_ms = NULL"
            connection.execute(f"UPDATE delivery SET {again}")
        at.dispatcher.wake()
        await at.until_states(dead=1)
        assert at.delivery("last_error") == (confirm.CHANGED,)


async def test_a_database_that_fails_meanwhile_runs_nothing_unconfirmed(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm, "_STORE_WAIT_S", 0.02)
    work.api.know(UUID)
    async with work.by() as at:
        at.queue.failures["confirm"] = 2
        await at.add("activate", **TRUE)
        await at.until_states(succeeded=1)
        assert at.delivery("attempts_left") == (2,)
        assert [run.vouched["confirmed"] is not None for _, run in at.shell.runs] == [True]
