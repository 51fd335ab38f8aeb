"""Asking Prembly, against a stand-in made from its pages."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from premblyd.features.asking import client
from premblyd.features.asking.answers import Question
from premblyd.features.asking.client import Answer, AnswerKind, Breaker, Inquirer, Pace
from premblyd.ground.times import Clock
from premblyd.prembly.payload import Outcome
from tests.support import prembly_api
from tests.support.logs import Lines
from tests.support.prembly_api import PremblyApi
from tests.support.waiting import until

T = TypeVar("T")


def run(api: PremblyApi, work: Callable[[Inquirer], Awaitable[T]], **keys: Any) -> T:
    async def main() -> T:
        with closing(Inquirer(Clock())) as inquirer:
            inquirer.configure(api.settings(**keys))
            return await work(inquirer)

    return asyncio.run(main())


def question(reference: str = "r-1") -> Question:
    return Question(identifier=reference, reference=reference)


def ask(api: PremblyApi, reference: str = "r-1", **keys: Any) -> Answer:
    return run(api, lambda inquirer: inquirer.ask(question(reference)), **keys)


def test_a_verification_is_asked_for_as_the_account(api: PremblyApi) -> None:
    api.know("r-1", user_ref="u-1")
    answer = ask(api, headers={"X-Own": "own", "Accept": "application/vnd.x"})
    assert (answer.kind, answer.http_status) == (AnswerKind.KNOWN, 200)
    assert answer.stated
    verdict = answer.stated.verdict
    assert (verdict.outcome, verdict.user_ref) == (Outcome.VERIFIED, "u-1")
    status = {"path": "/verification/{id}/status"}
    api.key = "live_sk_other"
    assert ask(api, api_key=api.key, status=status).kind is AnswerKind.KNOWN
    asked, other = api.questions
    assert (asked.method, asked.path) == ("GET", "/api/v1/verification/api/status/r-1/")
    sent = {"x-api-key": prembly_api.KEY, "x-own": "own"}
    assert asked.headers.items() >= (sent | {"accept": "application/vnd.x"}).items()
    assert (other.method, other.path) == ("GET", "/verification/r-1/status")


NO_OBJECT = "the answer is no JSON object, or has too many values"
CUT = "the connection broke in the middle of the answer"
REDIRECT = "HTTP 302: a redirect, which is not followed; is `prembly: url` right?"


@pytest.mark.parametrize(
    ("fault", "kind", "error"),
    [
        (prembly_api.status(404), AnswerKind.NOT_FOUND, "HTTP 404"),
        (prembly_api.code_01, AnswerKind.NOT_FOUND, None),
        (prembly_api.status(401), AnswerKind.REFUSED, "HTTP 401: Prembly refuses the API key"),
        (prembly_api.too_many(), AnswerKind.UNAVAILABLE, "HTTP 429"),
        (prembly_api.status(500), AnswerKind.UNAVAILABLE, "HTTP 500"),
        (prembly_api.hang, AnswerKind.UNAVAILABLE, "no answer in time"),
        (prembly_api.garbage, AnswerKind.UNAVAILABLE, NO_OBJECT),
        (prembly_api.redirect, AnswerKind.UNAVAILABLE, REDIRECT),
        (prembly_api.endless, AnswerKind.UNAVAILABLE, "the answer is larger than 1 MiB"),
        (prembly_api.cut, AnswerKind.UNAVAILABLE, CUT),
    ],
)
def test_each_way_to_fail_has_its_kind(
    api: PremblyApi,
    fault: prembly_api.Fault,
    kind: AnswerKind,
    error: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 1 << 20)
    api.know("r-1")
    api.fail(fault)
    answer = ask(api, timeout="100ms" if fault is prembly_api.hang else "10s")
    assert (answer.kind, answer.error) == (kind, error)
    assert api.asked("r-1") == 1
    # Whether a refusal is for the key is asked at once.
    assert api.asked() == (2 if kind is AnswerKind.REFUSED else 1)


@pytest.mark.parametrize("value", ["99999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_retry_after_holds_for_all_and_for_an_hour_at_most(api: PremblyApi, value: str) -> None:
    api.fail(prembly_api.too_many(value), "r-1")

    async def work(inquirer: Inquirer) -> tuple[Answer, Answer, float]:
        first, second = [await inquirer.ask(question(name)) for name in ("r-1", "r-2")]
        return first, second, inquirer.wait_s

    first, second, wait_s = run(api, work)
    assert (first.http_status, first.retry_after_s) == (429, 3600)
    assert 3000 < wait_s <= 3600
    assert (second.was_asked, second.retry_after_s > 20) == (False, True)
    assert api.asked() == 1


def test_without_a_key_nothing_is_asked_and_nobody_listening_is_unavailable(
    api: PremblyApi,
) -> None:
    refused = ask(api, url="http://127.0.0.1:9")
    unreachable = "connection refused or unreachable"
    assert (refused.kind, refused.error) == (AnswerKind.UNAVAILABLE, unreachable)

    async def main() -> Answer:
        with closing(Inquirer(Clock())) as inquirer:
            inquirer.configure(None)
            assert not inquirer.can_ask
            return await inquirer.ask(question())

    answer = asyncio.run(main())
    assert (answer.kind, answer.was_asked, api.asked()) == (AnswerKind.UNAVAILABLE, False, 0)


def test_who_asks_for_the_same_meanwhile_gets_the_same_answer(api: PremblyApi) -> None:
    api.know("r-1")
    answers = run(api, lambda i: asyncio.gather(*(i.ask(question()) for _ in range(50))))
    assert api.asked() == 1
    assert {answer.sha256 for answer in answers} == {answers[0].sha256}


def test_each_question_waits_for_its_turn(api: PremblyApi, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []  # how many were asked at each

    async def turn(_: Pace) -> None:
        turns.append(api.asked())

    async def work(inquirer: Inquirer) -> None:
        for number in range(3):
            await inquirer.ask(question(f"r-{number}"))
        page = await inquirer.fetch("/api/v1/verification/logs/?page=1")
        assert (page.kind, b'"pagination"' in page.body) == (AnswerKind.KNOWN, True)

    monkeypatch.setattr(Pace, "turn", turn)
    run(api, work)
    assert turns == [0, 1, 2, 3]


def test_a_wrong_key_is_said_once_and_another_tried_at_once(api: PremblyApi, lines: Lines) -> None:
    api.know("r-1")

    async def work(inquirer: Inquirer) -> None:
        for number in range(30):
            answer = await inquirer.ask(question(f"r-{number}"))
            assert answer.kind is AnswerKind.REFUSED or answer.retry_after_s > 100
        assert api.asked() == 2, "and whether it is the key"
        inquirer.configure(api.settings())
        assert (await inquirer.ask(question("r-1"))).kind is AnswerKind.KNOWN

    run(api, work, api_key="test_sk_wrong")
    (refused,) = lines
    assert (refused["event"], refused["log_level"]) == ("inquiry.refused", "error")
    assert (refused["http_status"], "secret key" in refused["remedy"]) == (401, True)
    assert "test_sk_wrong" not in str(refused)


@pytest.mark.parametrize("fault", [prembly_api.status(500), prembly_api.garbage])
def test_ids_on_which_prembly_fails_stop_no_others(
    api: PremblyApi, fault: Any, lines: Lines
) -> None:
    """Whoever knows the public key can send such ids without end."""
    api.know("r-true")
    forged = [f"forged-{number}" for number in range(22)]
    for identifier in forged:
        api.fail(fault, identifier)

    async def work(inquirer: Inquirer) -> set[bool]:
        found = {(await inquirer.ask(question(each))).was_asked for each in forged[:11]}
        await inquirer.ask(question("r-true"))  # from now on this is asked for, to know
        together = [inquirer.ask(question(each)) for each in forged[11:]]
        found |= {answer.was_asked for answer in await asyncio.gather(*together)}
        assert (inquirer.wait_s, inquirer.circuit_open) == (0, False)
        return found

    assert run(api, work, rate="999") == {True}
    assert lines == []
    assert api.asked() < len(forged) + 9, "another is asked for at every fifth"


def test_after_a_pause_a_single_question_shows_whether_prembly_answers(
    api: PremblyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.05)
    api.fail(prembly_api.status(500), times=6)  # the sixth: whether it answers another
    for number in range(12):
        api.know(f"later-{number}")

    async def work(inquirer: Inquirer) -> tuple[int, list[AnswerKind]]:
        were_asked = [(await inquirer.ask(question(f"r-{n}"))).was_asked for n in range(8)]
        assert were_asked == [True] * 5 + [False] * 3
        await asyncio.sleep(inquirer.wait_s)
        api.fail(prembly_api.hang, times=1)
        asking = [
            asyncio.create_task(inquirer.ask(question(f"later-{number}"))) for number in range(12)
        ]
        await until(lambda: api.asked() == 7)
        await asyncio.sleep(0.03)  # the others' turns have come meanwhile
        asked = api.asked()
        api.mend()
        return asked, [answer.kind for answer in await asyncio.gather(*asking)]

    asked, kinds = run(api, work)
    assert asked == 7, "all asked at once, while nobody knew whether Prembly answers"
    assert len(kinds) == 12


def test_a_stop_gives_up_what_is_asked_and_asks_nothing_more(api: PremblyApi) -> None:
    api.fail(prembly_api.hang)

    async def work(inquirer: Inquirer) -> list[Answer]:
        asking = [asyncio.create_task(inquirer.ask(question(f"r-{n}"))) for n in range(3)]
        while api.asked() < 3:
            await asyncio.sleep(0.01)
        inquirer.interrupt()
        return [*await asyncio.gather(*asking), await inquirer.ask(question("r-9"))]

    answers = run(api, work, timeout="1h")
    assert {(answer.was_asked, answer.error) for answer in answers} == {
        (False, "the daemon was stopped")
    }
    assert api.asked() == 3


def test_turns_come_evenly_also_after_a_rest_and_when_the_loop_was_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0
    times_s: list[float] = []

    async def sleep(pause_s: float) -> None:
        nonlocal now_s
        now_s += pause_s
        await asyncio.sleep(0)

    async def turns(pace: Pace, count: int) -> None:
        async def turn() -> None:
            await pace.turn()
            times_s.append(now_s)

        await asyncio.gather(*(turn() for _ in range(count)))

    async def main() -> None:
        nonlocal now_s
        pace = Pace(100)
        await turns(pace, 5)
        now_s += 0.1
        waiting = asyncio.create_task(turns(pace, 10))
        await until(lambda: len(times_s) > 6)
        now_s += 0.1
        await waiting

    clock = SimpleNamespace(monotonic=lambda: now_s)
    monkeypatch.setattr(client, "time", clock)
    monkeypatch.setattr(client, "asyncio", SimpleNamespace(Lock=asyncio.Lock, sleep=sleep))
    asyncio.run(main())
    gaps_s = [later - first for first, later in pairwise(times_s)]
    assert len(gaps_s) == 14
    assert min(gaps_s) == pytest.approx(0.01), "what was late came in a burst"


def test_pauses_double_up_to_five_minutes_and_an_answer_ends_them() -> None:
    opened, now = Breaker(), 0.0
    pauses = []
    for _ in range(12):
        pauses.append(opened.failed(now))
        now += opened.wait_s(now)
    assert pauses == [0, 0, 0, 0, 10, 20, 40, 80, 160, 300, 300, 300]
    assert opened.circuit_open
    assert opened.succeeded()
    assert (opened.circuit_open, opened.failed(now)) == (False, 0)
    opened = Breaker()  # of what was asked together, failures count once
    assert [opened.failed(0.0) for _ in range(16)] == [0, 0, 0, 0, 10] + [0] * 11
    assert opened.failed(10.0) == 20
