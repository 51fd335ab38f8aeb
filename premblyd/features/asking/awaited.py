"""What Prembly is asked: verifications without a result yet, and a row for each question.

`due_at_ms` is the queue: when Prembly is asked next; NULL: it is not asked. A row is made and ended
in the transaction of the event that begins or settles it. A question changes no row before its
answer comes: after a crash it is asked again, and nothing needs repair.

Of the due ones, Prembly is asked first about those that it is known to have, then about those that
have waited longest since the last question, and last about the newest. So somebody who invents
references as fast as Prembly may be asked can't keep true ones from being asked about.
"""

import asyncio
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from peewee import JOIN, SQL, Case, Node, Query, fn

from premblyd.features.asking.standing import FINAL_OUTCOMES, Rank, Standing, standing_of
from premblyd.features.asking.states import AwaitedState, InquiryResult, Purpose
from premblyd.features.asking.stored import STANDING, settled_in_record
from premblyd.features.asking.tables import DOUBTS, Awaited, Inquiry
from premblyd.features.names.names import Spelt, look_up
from premblyd.prembly import events
from premblyd.prembly.payload import Webhook, plain_id, session_reference
from premblyd.queue.arrivals import reference_key
from premblyd.queue.digests import Digests
from premblyd.queue.hooks import withheld
from premblyd.store.columns import emptied_if
from premblyd.store.engine import (
    BulkInsert,
    Lookup,
    Row,
    Statement,
    Transaction,
    param,
    params,
    update,
)
from premblyd.store.tables import Event
from premblyd.store.writer import Step, Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInquiry:
    """A question that was asked, and what came of it. `reference` None: a session was asked for,
    whose id is a secret. `error` is ours: it quotes neither the answer nor the event."""

    at_ms: int
    purpose: Purpose
    result: InquiryResult
    reference: str | None
    duration_ms: int
    event_id: int | None = None
    delivery_id: int | None = None
    http_status: int | None = None
    error: str | None = None
    answer_bytes: int | None = None
    answer_sha256: bytes | None = None
    stored_event_id: int | None = None


def record(transaction: Transaction, inquiry: NewInquiry) -> int:
    """Keep a question about a delivery, which has its own though others share its answer. Return
    how many of it are kept whose answer is in DOUBTS."""
    add(transaction, inquiry)
    return transaction.number(_DOUBTS_OF, delivery_id=inquiry.delivery_id)


def add(transaction: Transaction, inquiry: NewInquiry) -> None:
    """Keep a question in a transaction with what else came of it. The verification of an event that
    Prembly does not confirm is awaited: whoever forges it must not hide the true result."""
    values = asdict(inquiry)
    sha256 = values.pop("answer_sha256")
    values["answer_digest"] = sha256 and Digests.of(transaction).of_body(sha256)
    transaction.write(_insert(), **values)
    if inquiry.purpose is Purpose.CONFIRM and inquiry.result in DOUBTS:
        about: dict[str, Any] = {"event_id": inquiry.event_id, "last_error": NOT_CONFIRMED}
        about |= {"at_ms": inquiry.at_ms, "due_at_ms": inquiry.at_ms + AGAIN_MS}
        transaction.write(_AWAIT_AGAIN, **about)
        transaction.write(_AWAIT, **about)


@functools.cache
def _insert() -> Statement:
    of_erased = withheld(param("event_id"), param("stored_event_id"))
    return Statement(Inquiry.insert(emptied_if(of_erased, Inquiry, params(*_STORED))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a new event means for what is awaited: it settles what waits for its reference, or
    Prembly is to be asked about it at `due_at_ms`. `reference`: or a digest of its session."""

    endpoint: str
    reference: str
    standing: Standing
    received_at_ms: int
    due_at_ms: int | None  # None: it settles

    @classmethod
    def of(cls, webhook: Webhook, ask_ms: int, money_ms: int) -> "Meaning | None":
        """Return what `webhook` means; None: nothing. Prembly is first asked `ask_ms` after it;
        about what waits for money, `money_ms`. (Who stores an answer ends what waited for it.)"""
        verdict = webhook.verdict
        session_id, standing = verdict.session_id, standing_of(verdict)
        name = verdict.reference or (session_reference(session_id) if session_id else None)
        if not name or standing is Standing.ELSEWHERE or webhook.verified_by == events.STORED_BY:
            return None
        settles = standing is Standing.RESULT
        wait_ms = money_ms if standing is Standing.WALLET else ask_ms
        return cls(
            endpoint=webhook.endpoint,
            reference=name,
            standing=standing,
            received_at_ms=webhook.received_at_ms,
            due_at_ms=None if settles else webhook.received_at_ms + wait_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A verification of which Prembly is to be asked now. `session_id`, which is a secret: of the
    event that began the waiting."""

    id: int
    event_id: int
    endpoint: str
    reference: str
    created_at_ms: int
    due_at_ms: int
    ask_count: int
    answered_at_ms: int | None  # when Prembly last said anything of it; None: never
    known_at_ms: int | None  # since when it is known that Prembly has it; None: it is not
    session_id: str | None
    response_code: str | None
    standing: Standing
    unknown_since_ms: int | None  # when Prembly first said that it has no such verification


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is to be asked now; and whether something turned out to be settled, and was ended."""

    waiting: Sequence[Waiting]
    has_settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What becomes of a waiting of whose answer no event was made. `due_at_ms`: when Prembly is
    asked again; None: it is `ending`. `created_at_ms`: what it counts from; if the clock was set
    meanwhile, the record has that moved, and moves it too. `reference`: of what was asked; after a
    failover that lost transactions the number is another's. None: it was read just now.
    `is_answered`, `is_known`: Prembly said something, and that it has such a verification."""

    id: int
    at_ms: int
    due_at_ms: int | None
    error: str | None
    created_at_ms: int | None = None
    reference: str | None = None
    ending: AwaitedState = AwaitedState.GIVEN_UP
    settled_by_id: int | None = None
    was_asked: bool = True
    is_answered: bool = False
    is_known: bool = False


def lock_name(reference: str) -> str:
    """Return the name that is locked by what begins or ends the waiting for a reference. So of an
    event that begins it and one that ends it, which two hosts store at once, the later sees the
    earlier."""
    return f"awaited {plain_id(reference)}"


def note(transaction: Transaction, new: Mapping[int, Meaning]) -> None:
    """Begin and end waitings as these new events, by their numbers, demand: in the transaction
    that stores them, and in whichever order they came."""
    if not new:
        return
    settled_by = {each.reference: id_ for id_, each in new.items() if each.due_at_ms is None}
    settle(transaction, settled_by, max(each.received_at_ms for each in new.values()))
    _begin(transaction, {id_: each for id_, each in new.items() if each.due_at_ms is not None})


def settle(transaction: Transaction, settled_by: Mapping[str, int], at_ms: int) -> bool:
    """End what waits for these references, each with the number of the event that settles it; what
    was given up too. Return whether anything did."""
    plain = {plain_id(reference): by_id for reference, by_id in settled_by.items()}
    ended = look_up(transaction, _OPEN_FOR, plain) if plain else []
    for row_id, reference in ended:
        by_id = plain[plain_id(reference)]
        transaction.write(_END, id=row_id, finished_at_ms=at_ms, settled_by_id=by_id)
    return bool(ended)


def note_asked(transaction: Transaction, asked: Asked) -> bool:
    """Put down what becomes of a waiting that an answer did not settle. Return False, with nothing
    changed, when it has ended meanwhile."""
    is_over = asked.due_at_ms is None
    changed = transaction.change(
        _ASKED,
        id=asked.id,
        reference=asked.reference,
        state=asked.ending if is_over else AwaitedState.WAITING,
        due_at_ms=asked.due_at_ms,
        created_at_ms=asked.created_at_ms,
        finished_at_ms=asked.at_ms if is_over else None,
        settled_by_id=asked.settled_by_id,
        last_error=asked.error,
        count=int(asked.was_asked),
        asked_at_ms=asked.at_ms if asked.was_asked else None,
        answered_at_ms=asked.at_ms if asked.is_answered else None,
        known_at_ms=asked.at_ms if asked.is_known else None,
    )
    return changed > 0


def waiting_unknown(transaction: Transaction, names: Collection[str]) -> list[int]:
    """Return what waits under one of these names, and is not known to be Prembly's."""
    rows = look_up(transaction, _WAITING_UNKNOWN, {*names, *map(session_reference, names)})
    return [row_id for (row_id,) in rows]


def note_known(transaction: Transaction, row_ids: Collection[int], at_ms: int) -> None:
    """Note of what waits that Prembly has it, as its log says: so it is asked about first."""
    for row_id in row_ids:
        transaction.write(_KNOWN, id=row_id, known_at_ms=at_ms)


class AwaitedQueue:
    """What is awaited, for the loop that asks."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def due(self, now_ms: int, limit: int, asking: Collection[int]) -> "asyncio.Future[Due]":
        """Return up to `limit` that are due, in their order, without those of `asking`.
        What an event in the record settles is ended instead: it came while nothing was awaited."""

        def operation(transaction: Transaction) -> Due:
            rows = transaction.rows(_DUE, now_ms=now_ms, limit=limit + len(asking))
            waiting = [_waiting(row) for row in rows if row[0] not in asking][:limit]
            settled_by = settled_in_record(transaction, {row.reference for row in waiting})
            # What another host may be removing can't be pointed at: it is looked for again.
            free = {row[0] for row in transaction.look_up(_LOCK, sorted({*settled_by.values()}))}
            own = {name: event_id for name, event_id in settled_by.items() if event_id in free}
            return Due(
                waiting=[row for row in waiting if row.reference not in settled_by],
                has_settled=settle(transaction, own, now_ms),
            )

        return self._writer.call(operation, Step.CLAIMS)

    def asked(self, asked: Asked, inquiry: NewInquiry | None = None) -> "asyncio.Future[bool]":
        """Put down that Prembly's answer settled nothing, with the record of the question. False:
        an event settled it meanwhile."""

        def operation(transaction: Transaction) -> bool:
            if inquiry is not None:
                add(transaction, inquiry)
            return note_asked(transaction, asked)

        return self._writer.call(operation, Step.FINISHES)


def _begin(transaction: Transaction, unsettled: Mapping[int, Meaning]) -> None:
    """Await these events, by their numbers, but for those whose reference is awaited already or is
    settled in the record."""
    first: dict[tuple[Rank, str], int] = {}
    for event_id, arrival in unsettled.items():
        place = (Rank.of(arrival.standing), plain_id(arrival.reference))
        first.setdefault(place, event_id)
    if not first:
        return
    references = {reference for _, reference in first}
    known = dict.fromkeys(settled_in_record(transaction, references), Rank.OPEN)
    were_asked = set()
    for reference, is_waiting, standing in look_up(transaction, _AWAITED_FOR, references):
        plain, rank = plain_id(reference), Rank.of(standing)
        if is_waiting:
            known[plain] = max(rank, known.get(plain, rank))
        elif rank is Rank.ONCE:
            were_asked.add(plain)
    rows = []
    for (rank, reference), event_id in sorted(first.items(), reverse=True):
        is_done = rank is Rank.ONCE and reference in were_asked
        if not is_done and (reference not in known or known[reference] < rank):
            known[reference] = rank
            new = unsettled[event_id]
            times = (new.received_at_ms, new.due_at_ms)
            names = (new.reference, reference_key(new.reference))
            rows.append((event_id, new.endpoint, *names, *times, AwaitedState.WAITING))
    transaction.write_many(_INSERT, sorted(rows))


def _waiting(row: Row) -> Waiting:
    """Return what a row of `_DUE` says."""
    values: dict[str, Any] = dict(zip(_DUE_FIELDS, row, strict=True))
    return Waiting(**values | {"standing": Standing(values["standing"])})


AGAIN_MS = 60_000
NOT_CONFIRMED = "Prembly does not confirm the event that settled it"


def _of_event(value: Node) -> Query:
    return Event.select(value).where(Event.id == param("event_id"))


_AWAIT_AGAIN = Statement(
    Awaited.update(
        state=AwaitedState.WAITING,
        # The questions count from it: later than now it is where the clock was set back since.
        created_at_ms=Case(
            None, [(Awaited.created_at_ms > param("at_ms"), param("at_ms"))], Awaited.created_at_ms
        ),
        due_at_ms=param("due_at_ms"),
        finished_at_ms=None,
        settled_by=None,
        last_error=param("last_error"),
    ).where(
        (Awaited.reference == _of_event(Event.reference))
        | (Awaited.reference == _of_event(Event.reference_key))
        | (Awaited.reference_key == _of_event(fn.COALESCE(Event.reference_key, Event.reference))),
        Awaited.settled_by == param("event_id"),
    )
)
_AWAIT = Statement(
    Awaited.insert_from(
        Event.select(
            *(Event.id, Event.endpoint, Event.reference, Event.reference_key),
            *(param("at_ms"), param("due_at_ms"), SQL("'waiting'"), param("last_error")),
        ).where(
            Event.id == param("event_id"),
            Event.outcome.in_(FINAL_OUTCOMES),
            Event.reference.is_null(False),
            ~fn.EXISTS(
                Awaited.select(Awaited.id).where(
                    (Awaited.reference == Event.reference)
                    | (Awaited.reference == Event.reference_key)
                    | (Awaited.reference_key == fn.COALESCE(Event.reference_key, Event.reference)),
                    Awaited.due_at_ms.is_null(False) | (Awaited.event == Event.id),
                )
            ),
        ),
        [
            *(Awaited.event, Awaited.endpoint, Awaited.reference, Awaited.reference_key),
            *(Awaited.created_at_ms, Awaited.due_at_ms, Awaited.state, Awaited.last_error),
        ],
    )
)
_DOUBTS_OF = Statement(
    Inquiry.select(fn.COUNT(Inquiry.id)).where(
        Inquiry.delivery == param("delivery_id"), Inquiry.result.in_(DOUBTS)
    )
)
_STORED = [*({field.name for field in fields(NewInquiry)} - {"answer_sha256"}), "answer_digest"]
_IS_WAITING = Awaited.due_at_ms.is_null(False)
_IS_OPEN = Awaited.state != AwaitedState.SETTLED  # waiting, or given up
_INSERT = BulkInsert(
    Awaited,
    *("event_id", "endpoint", "reference", "reference_key", "created_at_ms", "due_at_ms", "state"),
)
_AWAITED = Awaited.select(Awaited.reference, Case(None, [(_IS_WAITING, 1)], 0), STANDING).join(
    Event
)
_AWAITED_FOR = Spelt.of(_AWAITED, Awaited)
_UNKNOWN = Awaited.select(Awaited.id).where(_IS_WAITING, Awaited.known_at_ms.is_null())
_WAITING_UNKNOWN = Spelt.of(_UNKNOWN, Awaited)
_KNOWN = update(Awaited, "known_at_ms", where=(Awaited.id == param("id")) & _IS_WAITING)
_OPEN = Awaited.select(Awaited.id, Awaited.reference).where(_IS_OPEN)
_OPEN_FOR = Spelt.of(_OPEN, Awaited)
_END = Statement(
    Awaited.update(
        state=AwaitedState.SETTLED,
        due_at_ms=None,
        finished_at_ms=param("finished_at_ms"),
        # None: its record is deleted, and what came again is a duplicate of it.
        settled_by=Event.select(Event.id).where(Event.id == param("settled_by_id")),
        last_error=None,
    ).where(Awaited.id == param("id"), _IS_OPEN)
)
_ASKED = Statement(
    Awaited.update(
        state=param("state"),
        due_at_ms=param("due_at_ms")
        + fn.COALESCE(Awaited.created_at_ms - param("created_at_ms"), 0),
        finished_at_ms=param("finished_at_ms"),
        settled_by=param("settled_by_id"),
        last_error=param("last_error"),
        ask_count=Awaited.ask_count + param("count"),
        **{
            name: fn.COALESCE(param(name), getattr(Awaited, name))
            for name in ("asked_at_ms", "answered_at_ms")
        },
        known_at_ms=fn.COALESCE(Awaited.known_at_ms, param("known_at_ms")),
    ).where(
        Awaited.id == param("id"),
        Awaited.reference == fn.COALESCE(param("reference"), Awaited.reference),
        _IS_WAITING,
    )
)
_DUE_FIELDS = tuple(field.name for field in fields(Waiting))
_OF_EVENT = {  # the last of them
    "session_id": Event.session_id,
    "response_code": Event.response_code,
    "standing": STANDING,
    "unknown_since_ms": Inquiry.select(fn.MIN(Inquiry.at_ms)).where(
        Inquiry.event == Event.id, Inquiry.result == InquiryResult.NOT_FOUND
    ),
}
_DUE = Statement(
    Awaited.select(
        *(getattr(Awaited, name) for name in _DUE_FIELDS if name not in _OF_EVENT),
        *_OF_EVENT.values(),
    )
    .join(Event, JOIN.LEFT_OUTER)  # there is one; so SQLite begins with what waits
    .where(Awaited.due_at_ms <= param("now_ms"))
    .order_by(
        Awaited.known_at_ms.is_null(),
        fn.COALESCE(Awaited.asked_at_ms, SQL("0")),
        Awaited.created_at_ms.desc(),
    )
    .limit(param("limit"))
)
_LOCK = Lookup(Event.select(Event.id), Event.id, locks=True)
SHIFT = Statement(  # of the beginning too, from which the questions and `give_up` count
    Awaited.update(
        due_at_ms=Awaited.due_at_ms + param("by_ms"),
        created_at_ms=Awaited.created_at_ms + param("by_ms"),
    ).where(
        _IS_WAITING,
        (Awaited.created_at_ms < param("before_ms")) | (Awaited.created_at_ms > param("after_ms")),
    )
)
