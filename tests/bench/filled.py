"""A record of millions of events, filled in minutes with the rows that a daemon would have written.

What the row of a webhook says is what `recognise` reads in a body of each shape; only names,
digests and times are its own. `check` counts what is there, and has some of the webhooks come once
more, as they come to a daemon: the rows must be the same.
"""

import asyncio
import hashlib
import itertools
import json
import os
import random
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from tornado.httputil import HTTPHeaders

from premblyd.config.load import parse_config
from premblyd.config.models import Retry
from premblyd.config.secrets import SecretPlaces
from premblyd.databases import DatabaseAddress, Server, file_of
from premblyd.engines.connections import backend
from premblyd.engines.writer import Writer
from premblyd.model.columns import columns
from premblyd.model.states import AttemptOutcome
from premblyd.model.tables import Attempt, Delivery, Event
from premblyd.prembly import signature
from premblyd.prembly.payload import Webhook
from premblyd.queue import rollups
from premblyd.queue.inbox import Inbox, NewDelivery
from premblyd.queue.jobs import Claimable, Ending, Job, Result, Room
from premblyd.queue.queue import Queue
from premblyd.receive.recognition import Incoming, recognise
from premblyd.routing import Routing
from premblyd.run.ending import ending_of
from premblyd.times import DAY_MS, HOUR_MS
from premblyd.verifications.digests import Digests
from tests.bench import webhooks
from tests.bench.load import LoadError
from tests.support.configuration import configuration
from tests.support.database import by_hand, past_checks, rows
from tests.support.webhooks import KEY

DAYS = 365  # in which the events came
OF_PERSON = 20  # events of each person, all through that time
NEWEST = 1_000  # events whose deliveries wait and are due, in a record of any size
ATTEMPTS = 10
SLOW, DONE = "slow", "done"  # the action of those that wait, and of those that are over
DEAD = 500  # in a record of any size, all through the time
OLD, OLD_DAYS = 2_000, 400  # so many came so long ago, in a record of any size
TOOK_MS, BUCKET_MS = 5, 6
_CHECKED = 40  # webhooks that come once more, of all shapes
_WORKER, _DIGEST = "host:1:00000000", "0" * 12
_REFERENCE, _USER = "m" * 32, "user-mmmmmmmm"
# In each row its own, and the same in all of a shape.
_OWN = "key body_digest reference user_ref received_at_ms token body".split()
_OF_SHAPE = (
    "body_bytes endpoint remote_ip headers verified_by kind type response_code status detail"
    " verification_status outcome face_match face_confidence doubt"
).split()
_DELIVERY = (
    "event_id action state due_at_ms attempt_count attempts_left created_at_ms finished_at_ms"
    " last_error"
).split()
_ATTEMPT = (
    "delivery_id number started_at_ms finished_at_ms outcome exit_code error claim_token worker"
    " action_digest output"
).split()
_EVENT_HOUR = "hour_ms type response_code outcome events duplicates unmatched part".split()
_ATTEMPT_HOUR = "hour_ms action outcome bucket_ms attempts part".split()
Rows = Iterator[tuple[Any, ...]]


class Filling:
    """The rows of a record of so many events, which came all through the year before `now_ms`."""

    def __init__(self, events: int, now_ms: int) -> None:
        self.events = events
        self.people = max(1, events // OF_PERSON)
        self._first_ms = now_ms - DAYS * DAY_MS
        self._old_ms = now_ms - OLD_DAYS * DAY_MS
        self._one_dead_in = events // DEAD
        self._every_ms = DAYS * DAY_MS / events
        self.waiting_from = events - NEWEST
        self._shapes = [recognised(body, 0, "") for body in _bodies()]
        self._of_shape = [tuple(_value(each, name) for name in _OF_SHAPE) for each in self._shapes]
        self.digests = Digests(b"")  # those of the database that is filled

    def tables(self) -> Iterator[tuple[str, Iterable[str], Rows]]:
        """Yield each table with its columns and rows, whose ids are 1, 2, 3 …"""
        yield "event", (*_OWN, *_OF_SHAPE), map(self._event, range(self.events))
        yield "delivery", _DELIVERY, map(self._delivery, self._matched())
        finished = (number for number in self._matched() if number < self.waiting_from)
        yield "attempt", _ATTEMPT, map(self._attempt, finished, range(1, self.events + 1))
        yield "event_hour", _EVENT_HOUR, self._event_hours()
        yield "attempt_hour", _ATTEMPT_HOUR, self._attempt_hours()

    @property
    def deliveries(self) -> int:
        return sum(1 for _ in self._matched())

    @property
    def finished(self) -> int:
        return sum(number < self.waiting_from for number in self._matched())

    def at_ms(self, number: int) -> int:
        if number < OLD:
            return self._old_ms + number
        return self._first_ms + int(number * self._every_ms)

    def user_ref(self, number: int) -> str:
        return f"user-{number % self.people:08}"

    def webhook(self, number: int) -> Webhook:
        """Return what came at this place, as a daemon recognises it."""
        body = self._shapes[number % len(self._shapes)].body
        return recognised(self._named(body, number), self.at_ms(number), _token(number))

    def _named(self, body: bytes, number: int) -> bytes:
        body = body.replace(_REFERENCE.encode(), reference(number).encode())
        return body.replace(_USER.encode(), self.user_ref(number).encode())

    def _event(self, number: int) -> tuple[Any, ...]:
        shape = number % len(self._shapes)
        body = self._named(self._shapes[shape].body, number)
        digest = hashlib.sha256(body).digest()
        key = self.digests.key(b"event key", "prembly", "", end=digest)
        names = (reference(number), self.user_ref(number))
        return (
            key,
            self.digests.of_body(digest),
            *names,
            self.at_ms(number),
            _token(number),
            body,
            *self._of_shape[shape],
        )

    def _matched(self) -> Iterator[int]:
        return (number for number in range(self.events) if _is_matched(number))

    def is_dead(self, number: int) -> bool:
        return number % self._one_dead_in == 0

    def _delivery(self, number: int) -> tuple[Any, ...]:
        at_ms, event_id = self.at_ms(number), number + 1
        if number >= self.waiting_from:
            return (event_id, SLOW, "pending", at_ms, 0, ATTEMPTS, at_ms, None, None)
        ended_ms = at_ms + TOOK_MS
        if self.is_dead(number):
            return (event_id, DONE, "dead", None, 1, ATTEMPTS - 1, at_ms, ended_ms, "exit status 1")
        return (event_id, DONE, "succeeded", None, 1, ATTEMPTS - 1, at_ms, ended_ms, None)

    def _attempt(self, number: int, delivery_id: int) -> tuple[Any, ...]:
        at_ms = self.at_ms(number)
        ended = ("failed", 1, "exit status 1") if self.is_dead(number) else ("succeeded", 0, None)
        token = f"{number * 0x9E3779B97F4A7C15 % (1 << 64):016x}"
        own = (delivery_id, 1, at_ms, at_ms + TOOK_MS, *ended, token)
        return (*own, _WORKER, _DIGEST, "")

    def _event_hours(self) -> Rows:
        groups = [rollups.event_group(each)[1:] for each in self._shapes]
        counts: Counter[tuple[int, int]] = Counter()
        unmatched: Counter[tuple[int, int]] = Counter()
        for number in range(self.events):
            place = self.at_ms(number) // HOUR_MS, number % len(groups)
            counts[place] += 1
            unmatched[place] += not _is_matched(number)
        alike: Counter[tuple[Any, ...]] = Counter()
        alone: Counter[tuple[Any, ...]] = Counter()
        for (hour, shape), count in counts.items():
            alike[hour * HOUR_MS, *groups[shape]] += count
            alone[hour * HOUR_MS, *groups[shape]] += unmatched[hour, shape]
        for group, count in alike.items():
            yield (*group, count, 0, alone[group], 0)

    def _attempt_hours(self) -> Rows:
        counts: Counter[tuple[int, str]] = Counter()
        for number in self._matched():
            if number < self.waiting_from:
                outcome = "failed" if self.is_dead(number) else "succeeded"
                counts[(self.at_ms(number) + TOOK_MS) // HOUR_MS * HOUR_MS, outcome] += 1
        for (hour_ms, outcome), count in counts.items():
            yield (hour_ms, DONE, outcome, BUCKET_MS, count, 0)


def reference(number: int) -> str:
    """Return the reference of the event at this place, which comes in no order."""
    return "ref-" + hashlib.blake2b(number.to_bytes(8, "big"), digest_size=14).hexdigest()


def fill(place: DatabaseAddress, filling: Filling) -> None:
    """Make the record at `place`, and check it."""
    backend(place).prepare()
    filling.digests = Digests(_digest_key(place))
    if isinstance(place, Server):
        _fill_server(place, filling)
    else:
        _fill_file(file_of(place) or Path(), filling)
        os.sync()  # or the system writes it while something is measured
    check(place, filling)


def _digest_key(place: DatabaseAddress) -> bytes:
    ((key,),) = rows(place, "SELECT digest_key FROM record")
    return bytes(key)


def _fill_file(path: Path, filling: Filling) -> None:
    """Its indexes grow with the rows: made afterwards, they would read all bodies a dozen times.
    Its triggers judge nothing: `check` does. What nobody relies on yet needs no journal."""
    with closing(sqlite3.connect(path)) as connection:
        for pragma in ("synchronous = off", "journal_mode = off", "cache_size = -3000000"):
            connection.execute(f"PRAGMA {pragma}")
        with connection, past_checks(connection):
            for table, columns, values in filling.tables():
                marks = ", ".join("?" for _ in columns)
                inserting = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
                connection.executemany(inserting, values)
        connection.execute("PRAGMA journal_mode = wal")


def _fill_server(server: Server, filling: Filling) -> None:
    """Its indexes are made afterwards, and its triggers judge nothing: `check` does. With both, a
    million events take ten minutes."""
    with psycopg.connect(server.url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET maintenance_work_mem = '1GB'")
        indexes = connection.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}".encode())
        for table, columns, values in filling.tables():
            into = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
            with connection.cursor().copy(into.encode()) as copy:
                for row in values:
                    copy.write_row(row)
        for _, made in indexes:
            connection.execute(made.encode())
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


_COUNTED = """
SELECT type, response_code, outcome, sum(events), sum(unmatched) FROM event_hour
WHERE hour_ms = ? GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_OF_ROWS = """
SELECT type, response_code, outcome, count(*),
       sum(CASE WHEN EXISTS (SELECT 1 FROM delivery WHERE event_id = event.id) THEN 0 ELSE 1 END)
FROM event WHERE received_at_ms >= ? AND received_at_ms < ? GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_CLAIMABLE = {
    DONE: Claimable(slots=1, lease_ms=60_000, digest=_DIGEST),
    SLOW: Claimable(slots=0, lease_ms=60_000, digest=_DIGEST),
}
_OF_EVENT = {
    Event: "FROM event WHERE event.reference = ?",
    Delivery: "FROM delivery JOIN event ON event.id = event_id WHERE event.reference = ?",
    Attempt: "FROM attempt JOIN delivery ON delivery.id = delivery_id"
    " JOIN event ON event.id = event_id WHERE event.reference = ?",
}
# Each row has these of its own.
_OWN_NUMBERS = ("id", "event_id", "delivery_id", "claim_token")
_BUCKETS = "SELECT DISTINCT action, outcome, bucket_ms FROM attempt_hour ORDER BY 1, 2, 3"
# Those that are no constraint's.
_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename IN ('event', 'delivery', 'attempt')
AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""


def check(place: DatabaseAddress, filling: Filling) -> None:
    """Raise LoadError when the record is not as a daemon would have left it."""
    deliveries, finished = filling.deliveries, filling.finished
    expected = {
        "SELECT count(*) FROM event": filling.events,
        "SELECT sum(events) FROM event_hour": filling.events,
        "SELECT sum(unmatched) FROM event_hour": filling.events - deliveries,
        "SELECT count(*) FROM delivery JOIN event ON event.id = event_id": deliveries,
        "SELECT count(*) FROM attempt JOIN delivery ON delivery.id = delivery_id": finished,
        "SELECT sum(attempts) FROM attempt_hour": finished,
    }
    for sql, count in expected.items():
        _require(sql, rows(place, sql), [(count,)])
    for number in range(0, filling.events, filling.events // 7):
        hour_ms = filling.at_ms(number) // HOUR_MS * HOUR_MS
        counted = rows(place, _COUNTED, hour_ms)
        _require("event_hour", counted, rows(place, _OF_ROWS, hour_ms, hour_ms + HOUR_MS))
    numbers = range(0, filling.events, filling.events // _CHECKED + 1)
    with tempfile.TemporaryDirectory() as folder:
        anew = Path(folder) / "premblyd.db"
        asyncio.run(_come_anew(anew, _digest_key(place), filling, numbers))
        _require("attempt_hour", rows(place, _BUCKETS), rows(anew, _BUCKETS))
        for number, (table, source) in itertools.product(numbers, _OF_EVENT.items()):
            name = table._meta.table_name
            names = [column.column_name for column in columns(table)]
            listed = ", ".join(f"{name}.{each}" for each in names if each not in _OWN_NUMBERS)
            sql = f"SELECT {listed} {source}"
            came = rows(anew, sql, reference(number))
            _require(f"{name} of event {number}", rows(place, sql, reference(number)), came)


async def _come_anew(
    path: Path, digest_key: bytes, filling: Filling, numbers: Iterable[int]
) -> None:
    """Have some of the webhooks come and their hooks end, each before the next, as in a daemon."""
    backend(path).prepare()
    by_hand(path, "UPDATE record SET digest_key = ?", digest_key)
    writer = Writer(backend(path).engine())
    inbox, queue = Inbox(writer), Queue(writer, _WORKER)
    for number in numbers:
        action = SLOW if number >= filling.waiting_from else DONE
        actions = [NewDelivery(action, ATTEMPTS)] if _is_matched(number) else []
        await inbox.add(filling.webhook(number), actions)
        at_ms = filling.at_ms(number)
        claimed = await queue.claim(_CLAIMABLE, Room(limit=1), at_ms)
        for job in claimed.jobs:
            await queue.finish(job, *_ended(filling.is_dead(number), job, at_ms + TOOK_MS))
    await writer.close()


def _ended(is_dead: bool, job: Job, at_ms: int) -> tuple[Result, Ending]:
    if not is_dead:
        result = Result(outcome=AttemptOutcome.SUCCEEDED, exit_code=0, output="")
    else:
        error = "exit status 1"
        outcome = AttemptOutcome.FAILED
        result = Result(outcome=outcome, exit_code=1, error=error, output="", final=True)
    policy = Retry(attempts=ATTEMPTS)
    return result, ending_of(job, result, policy, now_ms=at_ms, rng=random.Random(0))


def _require(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise LoadError(f"{what}: {found} instead of {expected}")


def _is_matched(number: int) -> bool:
    """Nine of ten have a delivery."""
    return number % 10 != 7


def _token(number: int) -> str:
    return f"token-{number}"


def _bodies() -> list[bytes]:
    """Return the bodies that come by turns: of 20 events, 16 are verified by the SDK, two are not,
    and two are about money."""
    verified = json.loads(webhooks.body(_REFERENCE))
    verified["widget_info"]["user_ref"] = _USER
    refused = verified | {
        "response_code": "01",
        "verification": {"status": "NOT-VERIFIED", "reference": _REFERENCE},
        "face_data": {"status": False, "confidence": 12.5},
    }
    found = {"event": "transaction.processed", "transaction_id": _REFERENCE}
    paid = {"status": True, "response_code": "00", "data": found, "customer_reference": _USER}
    documents = [verified] * 16 + [refused] * 2 + [paid | {"reference": _REFERENCE}] * 2
    return [json.dumps(document).encode() for document in documents]


_SETTINGS = parse_config(
    json.dumps(configuration()), Path("/premblyd.yaml"), SecretPlaces(Path("/"), {})
)


def recognised(body: bytes, at_ms: int, token: str) -> Webhook:
    """Return what comes with this body, as a daemon recognises it."""
    headers = HTTPHeaders({"Content-Type": "application/json", "x-prembly-signature": ""})
    headers[signature.HEADER] = signature.sign(body, KEY)
    headers[signature.TOKEN_HEADER] = token
    incoming = Incoming(
        endpoint=_SETTINGS.endpoints[0],
        received_at_ms=at_ms,
        remote_ip="192.0.2.7",
        headers=headers,
        body=body,
    )
    return recognise(incoming, Routing(()), is_trial=False).webhook


def _value(webhook: Webhook, name: str) -> Any:
    if name == "body_bytes":
        return len(webhook.body)
    of = webhook if hasattr(webhook, name) else webhook.verdict
    value = getattr(of, name)
    return str(value) if isinstance(value, str) else value
