"""Asking what became of what is pending: a real store, and a stand-in for Prembly's API."""

import asyncio
import itertools
import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Self

import pytest

from premblyd.config.load import parse_config
from premblyd.config.secrets import SecretPlaces
from premblyd.features.asking import pending
from premblyd.features.asking.awaited import AwaitedQueue, Due
from premblyd.features.asking.client import Inquirer
from premblyd.features.asking.pending import PendingAsker
from premblyd.features.asking.settings import PENDING, PREMBLY
from premblyd.features.asking.settling import Answers, Settling
from premblyd.ground.databases import DatabaseAddress
from premblyd.prembly import payload
from premblyd.prembly.payload import Webhook
from premblyd.queue import hooks
from premblyd.queue.inbox import Added, Inbox, NewDelivery
from premblyd.queue.queue import Queue
from premblyd.store.connections import backend
from premblyd.store.writer import Writer
from tests.support import prembly_api
from tests.support.clock import SettableClock
from tests.support.configuration import configuration, shell
from tests.support.database import Looking, rows
from tests.support.prembly_api import PremblyApi, Shape
from tests.support.waiting import until

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
ROWS = "SELECT state, ask_count, settled_by_id, last_error FROM awaited ORDER BY id"
ACTIONS = [
    shell("activate", "true", "00", types=["prembly.status"]),
    shell("others", "true", types=["verification.*"]),
]


class AdvancedClock(SettableClock):
    """The real clock, some time ahead."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


class CountingQueue(AwaitedQueue):
    """The real queue, which counts how often it is asked what is due."""

    rounds = found = 0

    def due(self, *arguments: Any) -> "asyncio.Future[Due]":
        self.rounds += 1
        asked = super().due(*arguments)
        asked.add_done_callback(self._note)
        return asked

    def _note(self, asked: "asyncio.Future[Due]") -> None:
        self.found = len(asked.result().waiting)


class At(AbstractAsyncContextManager["At"]):
    """An asker at work."""

    def __init__(self, place: DatabaseAddress, api: PremblyApi, **changes: Any) -> None:
        self.place = place
        self.api = api
        self.changes: dict[str, Any] = {
            "prembly": {"url": api.url, "api_key": prembly_api.KEY, "rate": 1000},
            "pending": {},
            "actions": ACTIONS,
            **changes,
        }
        self.clock = AdvancedClock()
        self.wakes = 0
        self.is_leader = True

    def __call__(self, **changes: Any) -> Self:
        self.changes |= changes
        return self

    async def __aenter__(self) -> Self:
        self._looking = Looking(self.place)
        self.writer = Writer(backend(self.place).engine())
        self.inbox = Inbox(self.writer)
        self.inquirer = Inquirer(self.clock)
        self.queue = CountingQueue(self.writer)
        self.asker = PendingAsker(
            self.queue,
            Answers(self.writer),
            self.inquirer,
            self.clock,
            self._count_wake,
            is_leader=lambda: self.is_leader,
        )
        self.configure()
        self._task = asyncio.create_task(self.asker.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.asker.stop()
        await self._task
        self.inquirer.close()
        self._looking.close()
        await self.writer.close()

    def configure(self, **changes: Any) -> None:
        self.changes |= changes
        data = {name: value for name, value in self.changes.items() if value is not None}
        text = json.dumps(configuration(**data))
        self.settings = parse_config(text, Path("/p.yaml"), SecretPlaces(Path("/")))
        self.inquirer.configure(PREMBLY.of(self.settings))
        self.asker.configure(PENDING.of(self.settings), Settling(self.settings))

    async def receive(self, *bodies: bytes, awaited: bool = True) -> list[Added]:
        """Store webhooks as the receiver does."""
        self.writer.bound = hooks.bind(self.settings if awaited else None)
        futures = [self.inbox.add(self.webhook(body), []) for body in bodies]
        return await asyncio.gather(*futures)

    async def due(self, *bodies: bytes) -> None:
        """Store webhooks, and let the first question about them be due."""
        await self.receive(*bodies)
        self.advance(MINUTE_MS)

    def webhook(self, body: bytes) -> Webhook:
        return Webhook(
            endpoint="prembly",
            received_at_ms=self.clock.now_ms(),
            remote_ip="192.0.2.7",
            token=None,
            headers="[]",
            body=body,
            verified_by="hmac-sha256:live",
            verdict=payload.read(body),
        )

    def advance(self, ms: int) -> None:
        self.clock.ahead_ms += ms
        self.asker.wake()

    def rows(self, sql: str = ROWS) -> list[tuple[Any, ...]]:
        return self._looking.rows(sql)

    async def until_rows(self, expected: list[tuple[Any, ...]], sql: str = ROWS) -> None:
        try:
            await until(lambda: self.rows(sql) == expected)
        except AssertionError:
            assert self.rows(sql) == expected

    async def rest(self) -> None:
        """Let whole rounds pass until nothing more is due, or Prembly is not asked."""
        is_over = False
        while not is_over:
            for _ in range(2):
                before = self.queue.rounds
                self.asker.wake()
                await until(lambda before=before: self.queue.rounds > before)  # type: ignore[misc]
            await until(lambda: not self.asker._asking)
            is_over = not self.queue.found or bool(self.inquirer.wait_s)

    async def until_asked(self, count: int, reference: str = "r-1") -> None:
        """Wait until Prembly was asked so often, and the answer is put down."""
        await until(lambda: self.api.asked(reference) >= count and not self.asker._asking)
        assert self.api.asked(reference) == count

    def _count_wake(self) -> None:
        self.wakes += 1


@pytest.fixture(name="at")
def make_asker(place: DatabaseAddress, api: PremblyApi) -> At:
    """What is at work within `async with at:`, or with changes within `async with at(…):`."""
    return At(place, api)


counter = itertools.count()


def body(status: str | None = "PENDING", reference: str = "r-1", code: str = "02") -> bytes:
    return json.dumps(
        {
            "response_code": code,
            "number": next(counter),
            "verification": {"status": status, "reference": reference},
        }
    ).encode()


def answer_late(handler: Any) -> None:
    handler.server.api.released.wait()
    handler.reply_bytes(handler.own_answer())


async def test_a_host_that_is_not_the_first_does_not_ask(at: At) -> None:
    at.api.know("r-1", status="PENDING", code="02")
    async with at:
        at.is_leader = False
        await at.due(body())
        await until(lambda: not at.asker._wake.is_set())
        assert (at.api.asked("r-1"), at.queue.rounds) == (0, 0)
        at.is_leader = True
        at.advance(0)
        await at.until_asked(1)


async def test_it_is_asked_for_until_the_third_answer_settles_it(at: At, lines: list[Any]) -> None:
    known = at.api.know("r-1", status="PENDING", code="02")
    document = {"status": "VERIFIED", "reference": "r-1"}
    known.body = json.dumps({"status": "processing", "verification": document}).encode()
    async with at:
        await at.receive(body())
        at.advance(MINUTE_MS // 2)
        await at.rest()
        assert at.api.asked("r-1") == 0
        for count, ms in enumerate([MINUTE_MS // 2, 4 * MINUTE_MS], 1):
            at.advance(ms)
            await at.until_asked(count)
            known.body = None
        await at.until_rows([("waiting", 2, None, "Prembly does not know yet either")])
        known.status, known.code = "VERIFIED", "00"
        known.body = answer = json.dumps(known._document(), indent=1).encode() + b"\r\n"
        at.advance(25 * MINUTE_MS)
        await at.until_rows([("settled", 2, 2, None)])
        [event] = at.rows(
            "SELECT type, endpoint, reference, response_code, outcome, body, token, verified_by,"
            " remote_ip, received_at_ms > 0 FROM event WHERE id = 2"
        )
        assert event == (
            *("prembly.status", "prembly", "r-1", "00", "verified", answer, None),
            *("prembly-api", "127.0.0.1", 1),
        )
        assert at.rows("SELECT event_id, action, state FROM delivery") == [
            (2, "activate", "pending")
        ]
        await until(lambda: at.wakes == 1)
        at.advance(10 * DAY_MS)
        await at.rest()
        assert at.api.asked("r-1") == 3
    asked = "SELECT purpose, event_id, reference, result, stored_event_id FROM inquiry ORDER BY id"
    assert rows(at.place, asked) == [
        ("pending", 1, "r-1", "unsettled", None),
        ("pending", 1, "r-1", "unsettled", None),
        ("pending", 1, "r-1", "settled", 2),
    ]
    assert [line["event"] for line in lines] == ["inquiry.answered"] * 3


async def test_an_answers_silence_overrides_no_no(at: At) -> None:
    """The webhook that is pending says that the face failed. The answer says nothing of it."""
    at.api.know("r-1")
    when = {"types": ["prembly.status"], "when": "face_match != `false`"}
    actions = [*ACTIONS, shell("faces", "true", "00", **when)]
    async with at(actions=actions):
        failed = json.loads(body()) | {"face_data": {"status": False}}
        await at.due(json.dumps(failed).encode())
        await at.until_rows([("settled", 0, 2, None)])
        assert at.rows("SELECT action FROM delivery") == [("activate",)]
        at.api.know("r-2")
        await at.due(body(reference="r-2"))
        await until(lambda: at.rows()[-1][0] == "settled")
        assert at.rows("SELECT action FROM delivery WHERE event_id = 4 ORDER BY id") == [
            ("activate",),
            ("faces",),
        ]


@pytest.mark.parametrize("status", ["VERIFIED", "PENDING"])
async def test_a_webhook_that_comes_meanwhile_settles(
    at: At, lines: list[Any], status: str
) -> None:
    """Nor is that called given up, when it was the last question."""
    at.api.know("r-1", status=status)
    at.api.fail(answer_late, "r-1", times=1)
    async with at(pending={"ask": ["1m"], "give_up": "1m"}):
        await at.due(body())
        await until(lambda: at.api.asked("r-1") == 1)
        await at.receive(body("VERIFIED", code="00"))
        at.api.mend()
        await until(lambda: not at.asker._asking)
        assert [(row[0], row[2]) for row in at.rows()] == [("settled", 2)]
        assert at.rows("SELECT count(*) FROM event") == [(2,)]
        at.advance(DAY_MS)
        await at.rest()
        assert at.api.asked("r-1") == 1
    assert [line for line in lines if line["event"] == "inquiry.answered"]
    assert not [line for line in lines if line["event"] == "pending.given_up"]


async def test_few_are_asked_at_once_and_most_of_the_rate_is_for_hooks(at: At) -> None:
    """Anybody who knows the public key can forge thousands of events that are pending."""
    at.api.fail(prembly_api.hang)
    async with at:
        await at.receive(*(body(reference=f"r-{number}") for number in range(20)))
        at.advance(MINUTE_MS)
        await until(lambda: at.api.asked() == pending.MAX_AT_ONCE)
        assert len(at.asker._asking) == pending.MAX_AT_ONCE
        at.api.mend()


async def test_a_session_is_asked_for_and_stays_a_secret(at: At, lines: list[Any]) -> None:
    at.api.know("own", session_id="sdk_session_1", shape=Shape.SESSION)
    event = {"response_code": "02", "session_id": "sdk_session_1", "verification_status": "PENDING"}
    async with at:
        await at.due(json.dumps(event).encode())
        await at.until_rows([("settled", 0, 2, None)])
        assert at.api.asked("sdk_session_1") == 1
        assert at.rows("SELECT count(DISTINCT reference) FROM event") == [(1,)]
        assert at.rows("SELECT reference FROM inquiry") == [(None,)]
    assert "sdk_session_1" not in str(lines)


async def test_without_an_answer_it_is_asked_again_at_the_end(at: At, lines: list[Any]) -> None:
    at.api.know("r-1")
    at.api.fail(prembly_api.status(401))
    async with at(pending={"ask": ["1m"], "give_up": "1m"}):
        await at.due(body())
        await at.until_asked(1)
        await until(lambda: at.rows()[0][:2] == ("waiting", 1))
        assert at.rows()[0][3]
        at.api.mend()
        at.configure(prembly=at.changes["prembly"] | {"rate": 999})  # as a reload with a right key
        at.advance(60 * MINUTE_MS)
        await at.until_rows([("settled", 1, 2, None)])
    assert not [line for line in lines if line["event"] == "pending.given_up"]


async def test_another_verification_in_the_answer_settles_nothing(at: At) -> None:
    at.api.fail(prembly_api.wrong_reference)
    async with at:
        await at.due(body(reference="11111111-1111-4111-8111-111111111111"))
        await at.until_rows([("waiting", 1, None, "Prembly's answer is about another reference")])
        assert at.rows("SELECT count(*) FROM event") == [(1,)]


@pytest.mark.parametrize("by_ms", [-DAY_MS, DAY_MS])
async def test_a_clock_that_is_set_meanwhile_moves_no_later_question(at: At, by_ms: int) -> None:
    at.api.know("r-1", status="PENDING", code="02")
    at.api.fail(answer_late, "r-1", times=1)
    async with at:
        await at.due(body())
        await until(lambda: at.api.asked("r-1") == 1)
        at.clock.set_by_ms = by_ms
        assert abs(at.clock.jumped_ms() - by_ms) < 1000
        await Queue(at.writer, "w").shift(by_ms, at.clock.now_ms(), at.clock.now_ms)
        at.api.mend()
        await at.until_asked(1)
        [(after_ms,)] = at.rows("SELECT due_at_ms - created_at_ms FROM awaited")
        assert after_ms == 5 * MINUTE_MS
        at.advance(4 * MINUTE_MS)
        await at.until_asked(2)


async def test_what_can_be_no_id_of_prembly_is_given_up_without_a_question(at: At) -> None:
    async with at:
        await at.due(body(reference="../../admin?x="))
        await at.until_rows([("given_up", 0, None, pending.CANT_ASK)])
        assert at.api.asked() == 0


async def test_while_prembly_is_down_few_are_asked(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "POLL_S", 0.01)
    at.api.fail(prembly_api.status(503))
    async with at:
        await at.due(*(body(reference=f"r-{number}") for number in range(50)))
        await until(lambda: at.inquirer.wait_s and not at.asker._asking)
        for _ in range(5):  # rounds that would ask if they might
            at.advance(0)
            await asyncio.sleep(0)
        assert 5 <= at.api.asked() <= 5 + pending.MAX_AT_ONCE
        assert {row[0] for row in at.rows()} == {"waiting"}


UUID, VER = "0b7c9f1d-1111-4222-8333-44445555666a", "ver_document_1"


async def test_two_names_of_one_verification_that_are_asked_at_once_are_settled_by_one_event(
    at: At,
) -> None:
    words = {"verification_status": "VERIFIED", "response_code": "00"}
    answer = {"status": True, "data": {"reference": UUID, "verification_id": VER, **words}}
    for name in (UUID, VER):
        at.api.know(name, body=json.dumps(answer | {"asked": name}).encode())
    at.api.fail(answer_late, times=2)
    async with at:
        await at.due(body(reference=UUID), body(reference=VER))
        await until(lambda: at.api.asked() == 2)
        at.api.mend()
        await at.until_rows([("settled", 0, 3, None)] * 2)
        assert at.rows("SELECT action FROM delivery") == [("activate",)]


async def test_a_question_in_vain_makes_no_event_doubtful(at: At) -> None:
    """What is still to run for an open event does not run for Prembly's later answer too."""
    known = at.api.know("r-1", status=None)
    archive = shell("archive", "true", "*", types=["*"])
    async with at(actions=[archive]):
        at.writer.bound = hooks.bind(at.settings)
        await at.inbox.add(at.webhook(body(None, code="00")), [NewDelivery("archive", 3)])
        at.advance(MINUTE_MS)
        await at.until_asked(1)
        known.status = "VERIFIED"
        at.advance(4 * MINUTE_MS)
        await at.until_rows([("settled", 1, 2, None)])
        deliveries = "SELECT event_id, state, ran_instead_id FROM delivery ORDER BY id"
        assert at.rows(deliveries) == [(1, "pending", None), (2, "skipped", 1)]


async def test_a_doubted_event_is_asked_about_once(at: At) -> None:
    at.api.know("r-1")
    async with at:
        await at.due(body("VERIFIED", code="07"))
        await at.until_asked(1)
        await at.receive(body("VERIFIED", code="01"))
        at.advance(DAY_MS)
        await at.rest()
        assert at.api.asked("r-1") == 1
        assert at.rows("SELECT count(*) FROM event") == [(2,)]


async def test_a_fault_of_ours_is_logged_and_delays_no_other(
    at: At, lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at.api.know("r-1")
    at.api.know("r-2")
    async with at:
        await at.receive(body(), body(reference="r-2"))
        judge = Settling.why_not_settled

        def failing(self: Settling, subject: Any, *more: Any) -> str | None:
            if subject.reference == "r-1":
                raise ZeroDivisionError("hush")
            return judge(self, subject, *more)

        monkeypatch.setattr(Settling, "why_not_settled", failing)
        at.advance(MINUTE_MS)
        await until(lambda: [row[0] for row in at.rows()] == ["waiting", "settled"])
        await until(lambda: at.rows()[0][1] == 1)
        assert at.rows()[0][3] == "premblyd failed: ZeroDivisionError"
        [(due_ms,)] = at.rows("SELECT due_at_ms FROM awaited WHERE id = 1")
        assert due_ms > at.clock.now_ms() + MINUTE_MS  # and not at once
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["pending.failed"]
