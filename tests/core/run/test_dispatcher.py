"""The dispatcher: the real queue on a real file, fake runners."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from premblyd.config.hooks import Hook
from premblyd.config.models import Action
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import StoreUnavailableError
from premblyd.ground.privacy import safe_id
from premblyd.queue import due
from premblyd.queue.jobs import Claimed, Job, Result
from premblyd.run import dispatcher, starting
from premblyd.run.dispatcher import Actions
from premblyd.run.kinds import Invocation
from premblyd.store.states import AttemptOutcome
from tests.support.database import rows
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


@dataclass(frozen=True)
class Door:
    """A gate before the actions whose names have its word: it notes who passes, or ends the run."""

    word: str
    passed: list[tuple[str, str]] = field(compare=False, hash=False)
    result: Result | None = None
    room: int = 1

    def is_before(self, action: Action) -> bool:
        return self.word in action.name

    async def judge(self, job: Job, action: Action) -> Job | Result:
        self.passed.append((action.name, self.word))
        return self.result or job


async def test_a_hook_passes_the_gates_before_it_in_their_order_until_one_ends_its_run(
    place: DatabaseAddress,
) -> None:
    actions = [action(name) for name in ("not", "a", "ba", "end-a")]
    passed: list[tuple[str, str]] = []
    ends = Door("end", passed, replace(FAILED, final=True))
    gates = [Door("b", passed), ends, Door("a", passed)]
    async with Dispatching(place, *actions) as at:
        at.dispatcher.configure(Actions(actions, gates), at.limit, at.max_bytes)
        await at.add(*(one.name for one in actions))
        await at.until_states(succeeded=3, dead=1)
        assert {action_of(run) for _, run in at.shell.runs} == {"not", "a", "ba"}
        assert [each for each in passed if each[0] == "ba"] == [("ba", "b"), ("ba", "a")]
        assert sorted(passed)[0] == ("a", "a")
        assert [word for name, word in passed if name == "end-a"] == ["end"]


async def test_a_slow_action_never_delays_another(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "POLL_S", 600)
    slow, quick = action("slow", concurrency=1), action("quick", concurrency=1)
    async with Dispatching(place, slow, quick, limit=2) as at:
        at.shell.hold("slow")
        await asyncio.gather(*[at.add("slow") for _ in range(5)])
        await at.until(lambda: at.shell.running["slow"])
        await asyncio.gather(*[at.add("quick") for _ in range(5)])
        await at.until(lambda: at.states("quick") == {"succeeded": 5})
        assert at.states("slow") == {"running": 1, "pending": 4}
        at.shell.release()
        await at.until_states(succeeded=10)
        assert at.shell.most == {"slow": 1, "quick": 1, "all": 2}


async def test_concurrency_is_bounded_by_action_by_hosts_and_in_all(place: DatabaseAddress) -> None:
    two = action("two", concurrency={"host": 4, "cluster": 2})
    actions = [action("four"), two, action("one", concurrency=1)]
    async with Dispatching(place, *actions, limit=5) as at:
        for one in actions:
            at.shell.hold(one.name)
        for name in ["four", "one", "two"] * 4:
            await at.add(name)
        await at.until(lambda: at.shell.running["all"] == 5)
        at.shell.release()
        await at.until_states(succeeded=12)
        most = at.shell.most
        assert (most["one"], most["two"] <= 2, most["four"] <= 4, most["all"]) == (1, True, True, 5)
        await at.until(lambda: at.dispatcher.running == 0)


async def test_a_failing_hook_is_tried_again_until_it_is_dead(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, as it is due: the dispatcher itself looks again after the test only."""
    monkeypatch.setattr(dispatcher, "POLL_S", 600.0)
    at_once = {"attempts": 3, "first_delay": "0ms"}
    async with Dispatching(place, action("a", retry=at_once), runner=FakeRunner(FAILED)) as at:
        await at.add("a")
        await at.until_states(dead=1)
        assert at.attempts("number, outcome, exit_code") == [(n, "failed", 1) for n in (1, 2, 3)]
        dead = at.delivery("attempt_count, attempts_left, last_error, due_at_ms")
        assert dead == (3, 0, "exit status 1", None)
        at.shell.result = Result(outcome=AttemptOutcome.FAILED, http_status=410, final=True)
        await at.add("a")
        await at.until_states(dead=2)
        assert len(at.shell.runs) == 4, "what is final is not tried again"


async def test_a_runner_that_raises_spends_no_more_than_the_attempt(place: DatabaseAddress) -> None:
    raising = FakeRunner(ValueError("hush"))
    with logged() as lines:
        async with Dispatching(place, action("a", retry=QUICK), runner=raising) as at:
            await at.add("a")
            await at.until_states(dead=1)
            assert at.attempts("outcome, error") == [("failed", "premblyd failed: ValueError")] * 3
    assert [line["event"] for line in lines].count("runner.failed") == 3


async def test_a_failing_store_is_waited_for(place: DatabaseAddress) -> None:
    async with Dispatching(place, action("a"), failures={"claim": 5, "finish": 5}) as at:
        await at.add("a")
        await at.until_states(succeeded=1)
        assert not at.queue.failures.total()
        assert (len(at.shell.runs), at.attempts("outcome")) == (1, [("succeeded",)])


async def test_what_a_failed_claim_left_runs_at_once_beside_others(place: DatabaseAddress) -> None:
    async with Dispatching(place, action("runs"), action("a")) as at:
        at.shell.hold("runs")
        await at.add("runs")
        await at.until(lambda: at.shell.running["runs"])
        late, lost = at.queue._late, list[Claimed]()

        async def lose_first(claiming: "asyncio.Future[Claimed]") -> Claimed:
            claimed = await late(claiming)
            if claimed.jobs and not lost:
                lost.append(claimed)
                raise StoreUnavailableError("it may be on the disk")
            return claimed

        at.queue._late = lose_first  # type: ignore[method-assign]
        await at.add("a")
        await at.until(lambda: at.states("a") == {"succeeded": 1})
        assert at.states("runs") == {"running": 1}
        at.shell.release()
        await at.until_states(succeeded=2)
        ends = at.attempts("delivery_id, number, outcome")
        assert ends == [(1, 1, "succeeded"), (2, 1, "interrupted"), (2, 2, "succeeded")]
        assert rows(place, "SELECT attempts_left FROM delivery ORDER BY id") == [(2,), (2,)]


async def test_a_hook_that_was_revoked_costs_no_attempt(place: DatabaseAddress) -> None:
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
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "AGAIN_S", 0.0)
    async with Dispatching(place, action("a", concurrency=1), runner=UnreadyRunner()) as at:
        await at.add("a")
        await at.until_states(succeeded=1)
        assert at.attempts("number, outcome") == [(1, "interrupted"), (2, "succeeded")]
        assert at.delivery("attempts_left") == (2,)


async def test_stopping_does_not_wait_for_a_store_that_fails(place: DatabaseAddress) -> None:
    async with Dispatching(place, action("a"), failures={"finish": 10_000}) as at:
        await at.add("a")
        await at.until(lambda: at.queue.failures["finish"] < 10_000)
        await at.stop(3600)
    assert at.states() == {"running": 1}  # what a start finds open runs again


async def test_a_claim_that_is_under_way_at_stop_is_waited_for_too(place: DatabaseAddress) -> None:
    async with Dispatching(place, action("a"), runner=FakeRunner(takes_s=0.01)) as at:
        at.queue.late_s = 0.05
        await at.add("a")
        await at.until_states(running=1)
        assert at.dispatcher.running == 0  # claimed, but the dispatcher doesn't know yet
        await at.stop(60)
        assert at.states() == {"succeeded": 1}


@pytest.mark.parametrize("by_ms", [HOUR_MS, -HOUR_MS])
async def test_a_jump_of_the_clock_moves_what_waits(place: DatabaseAddress, by_ms: int) -> None:
    async with Dispatching(place, action("a", retry=SLOW), runner=FakeRunner(FAILED)) as at:

        async def look() -> int:
            """Let the dispatcher look again; return when the delivery is due."""
            seen_ms = at.dispatcher.last_round_ms
            at.dispatcher.wake()
            await at.until(lambda: at.dispatcher.last_round_ms != seen_ms)
            return int(at.delivery("due_at_ms")[0])

        await at.add("a")
        await at.until_states(pending=1)
        before_ms = await look()
        at.clock.set_by_ms = 1_500  # as drift may be
        assert await look() == before_ms
        at.queue.failures["shift"] = 2  # a jump is not forgotten while the database fails
        at.clock.set_by_ms += by_ms
        for _ in range(2):  # it is moved once
            assert abs(await look() - before_ms - by_ms) < 2_000
        assert (len(at.shell.runs), at.queue.failures["shift"]) == (1, 0)


async def test_a_clock_that_stands_still_keeps_nothing_waiting(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "POLL_S", 0.02)
    monkeypatch.setattr(dispatcher, "JUMP_MS", 10)
    async with Dispatching(place, action("a")) as at:
        at.clock.stands = True
        await at.add("a", received_at_ms=at.clock.now_ms() + 100)
        await at.until_states(succeeded=1)


async def test_a_replay_by_another_connection_is_noticed_at_the_next_look(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "POLL_S", 0.02)
    async with Dispatching(place, action("a"), runner=FakeRunner(FAILED)) as at:
        await at.add("a", attempts=1)
        await at.until_states(dead=1)
        at.shell.result = SUCCEEDED
        at.replay(1)
        await at.until_states(succeeded=1)
        assert [told(run, "ATTEMPT") for _, run in at.shell.runs] == [1, 2]


async def test_what_waits_for_a_removed_action_is_dead_until_it_returns(
    place: DatabaseAddress,
) -> None:
    removed, changed = action("removed", concurrency=1), action("removed", shell=":")
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
        at.configure(changed)
        at.replay(2)
        await at.until_states(succeeded=2)
        assert [hook for hook, _ in at.shell.runs] == [removed.hook, changed.hook]
        assert at.attempts("action_digest") == [(removed.digest,), (changed.digest,)]


async def test_a_claim_is_told_anew_of_what_runs_alone(place: DatabaseAddress) -> None:
    """Of thousands that would take longer than a webhook may wait."""
    async with Dispatching(place, *(action(f"a{number}") for number in range(20))) as at:
        for number in range(3):
            await at.add("a1", "a2")
            await at.until_states(succeeded=2 * number + 2)
        assert len({id(actions) for actions, *_ in at.queue.claims}) == 1
        loads = [load for _, load, _ in at.queue.claims]
        assert all(load.hooks.keys() | load.held_bytes.keys() <= {"a1", "a2"} for load in loads)
        assert loads[-1].hooks == {}, "those that have ended are forgotten"


async def test_an_attempt_is_a_line_without_what_it_handled(place: DatabaseAddress) -> None:
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
