"""The dispatcher: the real queue on a real file, fake runners."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from premblyd.config.hooks import Hook
from premblyd.databases import DatabaseAddress
from premblyd.model.states import AttemptOutcome, HaltReason
from premblyd.privacy import safe_id
from premblyd.queue import due
from premblyd.queue.jobs import Result
from premblyd.run import dispatcher
from premblyd.run.invocation import Invocation
from tests.support.database import changing, rows
from tests.support.dispatching import SUCCEEDED, Dispatching, FakeRunner
from tests.support.jobs import action, action_of, told
from tests.support.logs import logged

UUID = "00000000-0000-4000-8000-0000000a0001"
FAILED = Result(outcome=AttemptOutcome.FAILED, error="exit status 1", exit_code=1)
QUICK = {"attempts": 3, "first_delay": "20ms", "factor": "1"}
SLOW = {"attempts": 3, "first_delay": "10m", "factor": "1"}
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "STORE_PAUSE_S", 0.02)


async def test_each_delivery_runs_once_by_its_actions_runner(place: DatabaseAddress) -> None:
    shell, command = action("shell", shell="true"), action("command", command=["true"])
    http = action("http", http={"url": "http://x"})
    async with Dispatching(place, shell, command, http) as at:
        for _ in range(3):
            await at.add("shell", "command", "http", body=b"exact \xff")
        await at.until_states(succeeded=9)
        runs = at.shell.runs + at.http.runs
        assert {action_of(run) for _, run in at.shell.runs} == {"shell", "command"}
        assert [hook for hook, _ in at.http.runs] == [http.hook] * 3
        assert {(told(run, "ATTEMPT"), run.body) for _, run in runs} == {(1, b"exact \xff")}
        assert len({told(run, "DELIVERY") for _, run in runs}) == len(at.attempts("id")) == 9


async def test_a_slow_action_never_delays_another(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "POLL_S", 600)
    slow, quick = action("slow", concurrency=1), action("quick", concurrency=1)
    async with Dispatching(place, slow, quick, limit=2) as at:
        at.shell.hold("slow")
        await asyncio.gather(*[at.add("slow") for _ in range(20)])
        await at.until(lambda: at.shell.running["slow"])
        await asyncio.gather(*[at.add("quick") for _ in range(20)])
        await at.until(lambda: at.states("quick") == {"succeeded": 20})
        assert at.states("slow") == {"running": 1, "pending": 19}
        at.shell.release()
        await at.until_states(succeeded=40)
        assert at.shell.most == {"slow": 1, "quick": 1, "all": 2}


async def test_concurrency_is_bounded_by_action_and_in_all(place: DatabaseAddress) -> None:
    actions = [action("four"), action("two", concurrency=2), action("one", concurrency=1)]
    async with Dispatching(place, *actions, runner=FakeRunner(takes_s=0.02), limit=5) as at:
        for one in actions:
            at.shell.hold(one.name)
        for name in sorted(["four", "one", "two"] * 8):  # in the order in which they are due
            await at.add(name)
        await at.until(lambda: at.shell.running == {"four": 3, "one": 1, "two": 1, "all": 5})
        at.shell.release()
        await at.until_states(succeeded=24)
        most = at.shell.most
        assert (most["one"], most["all"]) == (1, 5)
        assert (most["two"] <= 2, most["four"] <= 4) == (True, True)
        await at.until(lambda: at.dispatcher.running == 0)


async def test_an_action_runs_no_more_than_may_on_all_hosts(place: DatabaseAddress) -> None:
    bounded = action("a", concurrency={"host": 4, "cluster": 2})
    async with Dispatching(place, bounded) as at:
        at.shell.hold("a")
        for _ in range(12):
            await at.add("a")
        await at.until(lambda: at.shell.running["a"] == 2)
        at.shell.release()
        await at.until_states(succeeded=12)
        assert at.shell.most["a"] == 2


async def test_what_a_halted_action_waits_for_costs_nothing_until_it_goes_on(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "POLL_S", 600)
    async with Dispatching(place, action("halted"), action("other")) as at:
        halts = at.runners.halts
        halts.begin("halted", HaltReason.ENDED)
        await at.add("halted", "other")
        await at.until(lambda: at.states("other") == {"succeeded": 1})
        assert at.states("halted") == {"pending": 1}
        assert at.attempts("number") == [(1,)]
        halts.begin("halted", HaltReason.NOT_READY)
        halts.end("other")  # which is not halted
        assert halts.reasons == {"halted": HaltReason.NOT_READY}
        halts.end("halted")
        await at.until_states(succeeded=2)


async def test_the_lease_of_a_line_that_takes_long_is_renewed_and_no_other(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "RENEW_EVERY_S", 0)
    async with Dispatching(place, action("line", worker=["x"]), action("other")) as at:
        at.shell.hold("line")
        at.shell.hold("other")
        await at.add("line", "other")
        await at.until(lambda: at.shell.running["all"] == 2)
        ends = dict(rows(at.place, "SELECT action, due_at_ms FROM delivery"))

        def renewed() -> bool:
            now = dict(rows(at.place, "SELECT action, due_at_ms FROM delivery"))
            assert now["other"] == ends["other"]
            return bool(now["line"] > ends["line"])

        at.dispatcher.wake()
        await at.until(renewed)
        assert at.states() == {"running": 2}


async def test_a_failing_hook_is_tried_again_until_it_is_dead(place: DatabaseAddress) -> None:
    async with Dispatching(place, action("a", retry=QUICK), runner=FakeRunner(FAILED)) as at:
        await at.add("a")
        await at.until_states(dead=1)
        assert at.attempts("number, outcome, exit_code") == [(n, "failed", 1) for n in (1, 2, 3)]
        dead = at.delivery("attempt_count, attempts_left, last_error, due_at_ms")
        assert dead == (3, 0, "exit status 1", None)
        times = at.attempts("started_at_ms, finished_at_ms")
        for (_, ended_ms), (started_ms, _) in pairwise(times):
            assert started_ms - ended_ms >= 10


def test_what_is_due_again_at_once_runs_at_once(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It need not wait until the dispatcher looks again, which here is after the test."""
    monkeypatch.setattr(dispatcher, "POLL_S", 600.0)
    at_once = {"attempts": 5, "first_delay": "0ms"}

    async def run() -> None:
        action_ = action("a", retry=at_once)
        async with Dispatching(place, action_, runner=FakeRunner(FAILED)) as at:
            await at.add("a")
            await at.until_states(dead=1)

    asyncio.run(run())


async def test_a_final_failure_is_dead_at_once(place: DatabaseAddress) -> None:
    final = Result(outcome=AttemptOutcome.FAILED, http_status=410, final=True)
    async with Dispatching(place, action("a", retry=QUICK), runner=FakeRunner(final)) as at:
        await at.add("a")
        await at.until_states(dead=1)
        assert at.delivery("attempt_count, attempts_left") == (1, 2)


async def test_a_runner_that_raises_spends_the_attempt_and_not_the_daemon(
    place: DatabaseAddress,
) -> None:
    raising = FakeRunner(ValueError("hush"))
    with logged() as lines:
        async with Dispatching(place, action("a", retry=QUICK), runner=raising) as at:
            await at.add("a")
            await at.until_states(dead=1)
            assert at.attempts("outcome, error") == [("failed", "premblyd failed: ValueError")] * 3
            raising.result = FAILED
            await at.add("a", attempts=1)
            await at.until_states(dead=2)
    assert [line["event"] for line in lines].count("runner.failed") == 3


async def test_a_failing_store_is_waited_for(place: DatabaseAddress) -> None:
    async with Dispatching(place, action("a"), failures={"claim": 5, "finish": 5}) as at:
        await at.add("a")
        await at.until_states(succeeded=1)
        assert not at.queue.failures.total()
        assert (len(at.shell.runs), at.attempts("outcome")) == (1, [("succeeded",)])


async def test_a_claim_that_failed_and_is_on_the_disk_runs_at_once_and_costs_nothing(
    place: DatabaseAddress,
) -> None:
    async with Dispatching(place, action("a"), failures={"claimed": 1}) as at:
        await at.add("a")
        await at.until_states(succeeded=1)
        assert at.attempts("number, outcome") == [(1, "interrupted"), (2, "succeeded")]
        assert at.delivery("attempts_left") == (2,)


async def test_a_hook_that_was_ended_as_others_may_have_its_delivery_costs_no_attempt(
    place: DatabaseAddress,
) -> None:
    """It is reported all the same: nobody may have taken it over."""
    async with Dispatching(place, action("a"), runner=FakeRunner(FAILED)) as at:
        held = at.shell.hold("a")
        await at.add("a")
        await at.until(lambda: at.shell.runs)
        (permit,) = at.dispatcher.permitted.values()
        permit.revoke()
        held.set()
        await at.until(lambda: len(at.shell.runs) == 2)
        assert at.attempts("number, outcome")[0] == (1, "interrupted")
        assert at.delivery("attempts_left") == (2,)


class UnreadyRunner(FakeRunner):
    """A runner that has no memory for the first hook it is to run."""

    calls = 0

    def run(self, hook: Hook, invocation: Invocation) -> Coroutine[Any, Any, Result]:
        self.calls += 1
        if self.calls == 1:
            raise MemoryError
        return super().run(hook, invocation)


@pytest.mark.usefixtures("lines")
async def test_a_hook_that_was_claimed_and_could_not_begin_runs_soon_and_that_costs_nothing(
    place: DatabaseAddress,
) -> None:
    runner = UnreadyRunner()
    async with Dispatching(place, action("a", concurrency=1), runner=runner) as at:
        await at.add("a")
        await at.add("a", body=b"another")
        await at.until_states(succeeded=2)
        assert sorted(at.attempts("number, outcome")) == [
            (1, "interrupted"),
            (1, "succeeded"),
            (2, "succeeded"),
        ]
        assert rows(place, "SELECT attempts_left FROM delivery ORDER BY id") == [(2,), (2,)]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a fault of ours")])
@pytest.mark.usefixtures("lines")
def test_a_claim_that_fails_for_whatever_reason_ends_nothing(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real, errors = due.Queued._take_first, [error] * 3

    def fail(*arguments: Any) -> int:
        if errors:
            raise errors.pop()
        return real(*arguments)

    async def scenario() -> None:
        async with Dispatching(place, action("a")) as at:
            await at.add("a")
            await at.until_states(succeeded=1)

    monkeypatch.setattr(due.Queued, "_take_first", fail)
    asyncio.run(scenario())
    assert not errors


async def test_stopping_does_not_wait_for_a_store_that_keeps_failing(
    place: DatabaseAddress,
) -> None:
    async with Dispatching(place, action("a"), failures={"finish": 10_000}) as at:
        await at.add("a")
        await at.until(lambda: at.queue.failures["finish"] < 10_000)
        await at.stop(3600)
    assert at.states() == {"running": 1}  # what a start finds open runs again


async def test_stop_waits_for_running_hooks_and_starts_no_more(place: DatabaseAddress) -> None:
    async with Dispatching(place, action("a", concurrency=1), action("b")) as at:
        at.shell.hold("a")
        await at.add("a")
        await at.until(lambda: at.shell.running["a"])
        stopping = asyncio.create_task(at.stop(60))
        await asyncio.sleep(0)
        await at.add("a", "b")
        await asyncio.sleep(0.1)
        assert not stopping.done()
        at.shell.release()
        await stopping
        assert not (await at.dispatcher._claim(at.clock.now_ms())).jobs
        assert at.states() == {"succeeded": 1, "pending": 2}
        assert at.shell.interrupts == 0


async def test_stop_interrupts_what_runs_too_long_and_it_costs_no_attempt(
    place: DatabaseAddress,
) -> None:
    async with Dispatching(place, action("a")) as at:
        at.shell.hold("a")
        await at.add("a")
        await at.until(lambda: at.shell.running["a"])
        at.shell.result = Result(outcome=AttemptOutcome.INTERRUPTED, error="the daemon was stopped")
        await at.stop(0.2)  # not for ever: nothing lets the hook end
        assert at.delivery("state, attempt_count, attempts_left") == ("pending", 1, 3)
        assert at.attempts("outcome") == [("interrupted",)]


async def test_a_claim_that_is_under_way_at_stop_is_waited_for_too(place: DatabaseAddress) -> None:
    async with Dispatching(place, action("a"), runner=FakeRunner(takes_s=0.1)) as at:
        at.queue.late_s = 0.2
        await at.add("a")
        await at.until_states(running=1)
        assert at.dispatcher.running == 0  # claimed, but the dispatcher doesn't know yet
        await at.stop(60)
        assert at.states() == {"succeeded": 1}


@pytest.mark.parametrize("by_ms", [HOUR_MS, -HOUR_MS, 2_500])
async def test_a_jump_of_the_clock_moves_what_waits_with_it(
    place: DatabaseAddress, by_ms: int
) -> None:
    async with Dispatching(place, action("a", retry=SLOW), runner=FakeRunner(FAILED)) as at:
        await at.add("a")
        await at.until_states(pending=1)
        (before_ms,) = at.delivery("due_at_ms")
        at.queue.failures["shift"] = 2  # a jump is not forgotten while the database fails
        at.clock.set_by_ms = by_ms
        at.dispatcher.wake()
        await at.until(lambda: at.delivery("due_at_ms") != (before_ms,))
        assert abs(at.delivery("due_at_ms")[0] - before_ms - by_ms) < 2_000
        seen_ms = at.dispatcher.last_round_ms
        at.dispatcher.wake()
        await at.until(lambda: at.dispatcher.last_round_ms != seen_ms)
        assert abs(at.delivery("due_at_ms")[0] - before_ms - by_ms) < 2_000  # and moves it once
        assert (len(at.shell.runs), at.queue.failures["shift"]) == (1, 0)


async def test_drift_of_the_clock_moves_nothing(place: DatabaseAddress) -> None:
    async with Dispatching(place, action("a", retry=SLOW), runner=FakeRunner(FAILED)) as at:
        await at.add("a")
        await at.until_states(pending=1)
        before = at.delivery("due_at_ms")
        at.clock.set_by_ms = 1_500
        seen_ms = at.dispatcher.last_round_ms
        at.dispatcher.wake()
        await at.until(lambda: at.dispatcher.last_round_ms > seen_ms + 1_000)
        assert at.delivery("due_at_ms") == before


async def test_a_clock_that_stands_still_keeps_nothing_waiting(place: DatabaseAddress) -> None:
    async with Dispatching(place, action("a")) as at:
        at.clock.stands = True
        await at.add("a", received_at_ms=at.clock.now_ms() + 100)
        await at.until_states(succeeded=1)


async def test_a_replay_by_another_connection_is_noticed_at_the_next_look(
    place: DatabaseAddress,
) -> None:
    async with Dispatching(
        place, action("a", retry={"attempts": 1}), runner=FakeRunner(FAILED)
    ) as at:
        await at.add("a", attempts=1)
        await at.until_states(dead=1)
        await asyncio.sleep(0.1)
        at.shell.result = SUCCEEDED
        at.replay(1)
        await at.until_states(succeeded=1)
        assert [told(run, "ATTEMPT") for _, run in at.shell.runs] == [1, 2]


async def test_a_late_report_of_a_lost_lease_changes_nothing(place: DatabaseAddress) -> None:
    with logged() as lines:
        async with Dispatching(place, action("a")) as at:
            at.shell.hold("a")
            await at.add("a")
            await at.until(lambda: at.shell.running["a"])
            with changing(place) as other:
                other.execute("UPDATE delivery SET attempt_count = 2")  # claimed by another
            at.shell.release()
            await at.until(lambda: lines)
            assert at.states() == {"running": 1}
    assert [line["event"] for line in lines] == ["attempt.lease_lost"]


async def test_what_waits_for_a_removed_action_ends_dead_until_it_returns(
    place: DatabaseAddress,
) -> None:
    removed = action("removed", concurrency=1)
    async with Dispatching(place, removed, action("kept")) as at:
        at.shell.hold("removed")
        await at.add("removed")
        await at.until(lambda: at.shell.running["removed"])
        await at.add("removed")
        at.configure(action("kept"))
        await at.until_states(running=1, dead=1)
        assert ("dead", due.NO_ACTION) in rows(place, "SELECT state, last_error FROM delivery")
        at.shell.release()
        await at.until_states(succeeded=1, dead=1)  # what ran ends as it began
        at.configure(*at.actions)
        at.replay(2)
        await at.until_states(succeeded=2)


async def test_a_changed_action_is_used_from_the_next_claim_on(place: DatabaseAddress) -> None:
    before, after = action("a", shell="true"), action("a", shell=":", concurrency=2)
    async with Dispatching(place, before) as at:
        await at.add("a")
        await at.until_states(succeeded=1)
        at.configure(after)
        await at.add("a")
        await at.until_states(succeeded=2)
        assert [hook for hook, _ in at.shell.runs] == [before.hook, after.hook]
        assert at.attempts("action_digest") == [(before.digest,), (after.digest,)]


async def test_a_claim_is_told_what_runs_and_nothing_anew_of_all_actions(
    place: DatabaseAddress,
) -> None:
    """Of thousands that would take longer than a webhook may wait."""
    async with Dispatching(place, *(action(f"a{number}") for number in range(20))) as at:
        for number in range(3):
            await at.add("a1", "a2")
            await at.until_states(succeeded=2 * number + 2)
        assert len({id(actions) for actions, *_ in at.queue.claims}) == 1
        loads = [load for _, load, _ in at.queue.claims]
        assert all(load.hooks.keys() | load.held_bytes.keys() <= {"a1", "a2"} for load in loads)
        assert loads[-1].hooks == {}, "those that have ended are forgotten"


async def test_an_attempt_is_logged_in_one_line_without_what_it_handled(
    place: DatabaseAddress,
) -> None:
    hush = {"body": b"hush", "token": "hush", "user_ref": "hush", "detail": "hush"}
    runner = FakeRunner(replace(FAILED, output="hush"))
    with logged() as lines:
        async with Dispatching(place, action("a", retry=QUICK), runner=runner) as at:
            await at.add("a", attempts=2, reference=UUID, **hush)
            await at.until_states(dead=1)
            runner.result = SUCCEEDED
            await at.add("a", reference="22123456789")
            await at.until_states(succeeded=1, dead=1)
    told = [(line["event"], line["state"], line["attempt"], line["reference"]) for line in lines]
    assert told == [
        ("attempt.finished", "pending", 1, UUID),
        ("attempt.finished", "dead", 2, UUID),
        ("attempt.finished", "succeeded", 1, safe_id("22123456789")),
    ]
    assert (lines[0]["outcome"], lines[0]["exit_code"]) == ("failed", 1)
    assert "hush" not in str(lines)


async def test_a_hook_for_whose_slot_nobody_waits_asks_for_nothing_when_it_ends(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "POLL_S", 600.0)
    async with Dispatching(place, action("a", concurrency=1)) as at:
        held = at.shell.hold("a")
        await at.add("a", body=b"1")
        await at.until(lambda: at.shell.running["a"])
        before = len(at.queue.claims)
        await at.add("a", body=b"2")
        await at.until(lambda: len(at.queue.claims) > before)
        held.set()  # now the second one takes the slot, and nobody waits behind it
        await at.until_states(succeeded=2)
        await at.until(lambda: not at.dispatcher.running)
        claims = len(at.queue.claims)
        await at.add("a", body=b"3")
        await at.until_states(succeeded=3)
        await at.until(lambda: not at.dispatcher.running)
        assert len(at.queue.claims) == claims + 1
