"""What people are told of asking Prembly: at an event, by `check`, by `status`, and as troubles."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from peewee import fn

from premblyd.config.keys import value_of
from premblyd.config.models import Config
from premblyd.config.values import LOOPBACK, PLACEHOLDER
from premblyd.features.asking import days, listing
from premblyd.features.asking.days import Day
from premblyd.features.asking.listing import AwaitedRow, InquiryRow, contradicted_ids
from premblyd.features.asking.settings import PENDING, PREMBLY
from premblyd.features.asking.tables import Awaited, Inquiry
from premblyd.ground import times
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted
from premblyd.prembly import events
from premblyd.prembly.events import STORED_BY
from premblyd.record import queries
from premblyd.record.events import Show, WholeEvent, has_person
from premblyd.record.told import (
    Block,
    Checked,
    Item,
    Part,
    Severity,
    Situation,
    Target,
    Told,
    trouble,
)
from premblyd.store.engine import Database
from premblyd.store.states import InquiryResult
from premblyd.store.tables import Downtime, VerificationName

ASK_ABOVE = 20  # questions


def of_event(database: Database, event: WholeEvent, show: Show, settings: Config | None) -> Told:
    """Return what Prembly was asked, and whether it contradicts the event."""
    query = contradicted_ids().where(Inquiry.event == event.id)
    is_contradicted = bool(queries.tuples(database, query))
    awaited = [show(row) for row in _awaited(database, event.id, event.reference)]
    inquiries = [InquiryRow(**show(row)) for row in _inquiries(database, event)]
    is_asked = settings is None or value_of("pending", settings) is not None
    blocks = [_unsettled(row, is_asked=is_asked) for row in awaited]
    if inquiries:
        lines = [_line(row, of_person=has_person(event)) for row in inquiries]
        blocks.append(Block(title="Questions to Prembly", lines=lines))
    hint = "Prembly contradicts it: see the questions to Prembly below."
    return Told(
        values={"contradicted": is_contradicted, "awaited": awaited, "inquiries": inquiries},
        lines=[hint] if is_contradicted else [],
        blocks=blocks,
    )


def _unsettled(row: Mapping[str, Any], *, is_asked: bool) -> Block:
    lines = []
    if row["due_at_ms"] is not None:
        at = f"asked next at {times.for_people(row['due_at_ms'])} UTC"
        lines.append(at if is_asked else "not asked: the configuration has no `pending`")
    if row["settled_by_id"] is not None:
        lines.append(f"settled by event {row['settled_by_id']}")
    if row["last_error"]:
        lines.append(row["last_error"])
    asked = f"{row['state']} after {counted(row['ask_count'], 'question')} to Prembly"
    return Block(title=f"Unsettled {row['id']}:", more=asked, lines=lines)


def _line(inquiry: InquiryRow, *, of_person: bool) -> str:
    of_none = "its session" if of_person else "a deleted name"
    asked_for = f"reference {inquiry.reference}" if inquiry.reference else of_none
    is_status = inquiry.error == f"HTTP {inquiry.http_status}"  # which is told anyway
    error = f": {inquiry.error}" if inquiry.error and not is_status else ""
    facts = [f"{inquiry.duration_ms} ms"]
    if inquiry.http_status:
        facts.append(f"HTTP {inquiry.http_status}, {inquiry.answer_bytes or 0} bytes")
    numbers = {"delivery": inquiry.delivery_id, "stored as event": inquiry.stored_event_id}
    facts += [f"{words} {number}" for words, number in numbers.items() if number]
    line = f"{inquiry.purpose}, {asked_for}: {inquiry.result}{error}  ({'; '.join(facts)})"
    return f"{times.for_people(inquiry.at_ms)} UTC  {line}"


def _inquiries(database: Database, event: WholeEvent) -> list[InquiryRow]:
    """Return the questions to Prembly about an event, and the one whose answer it is, the oldest
    first."""
    is_its = Inquiry.event == event.id
    if event.verified_by == STORED_BY:
        is_its = is_its | (Inquiry.stored_event == event.id)
    query = Inquiry.select(*queries.columns(Inquiry, InquiryRow)).where(is_its)
    return queries.rows(database, query.order_by(Inquiry.id), InquiryRow)


def _awaited(database: Database, event_id: int, reference: str | None) -> list[AwaitedRow]:
    """Return what was or is awaited of an event's verification, the oldest first."""
    is_its = Awaited.event == event_id
    if reference is not None:
        is_its |= Awaited.reference == reference
    query = Awaited.select(*queries.columns(Awaited, AwaitedRow)).where(is_its)
    return queries.rows(database, query.order_by(Awaited.id), AwaitedRow)


def of_replay(counts: Mapping[str, int], settings: Config) -> Iterator[str]:
    """Say how long Prembly is asked before the last of many hooks runs. `counts`: how many
    deliveries of each action will be queued."""
    confirming = [each.name for each in settings.actions if value_of("confirm", each)]
    count = sum(counts.get(name, 0) for name in confirming)
    prembly = value_of("prembly", settings)
    if prembly is not None and count > ASK_ABOVE:
        minutes = counted(math.ceil(count / prembly.rate / 60), "minute")
        yield f"{counted(count, 'question')} at {prembly.rate:g}/s: {minutes}."


def _days(situation: Situation) -> list[Day]:
    return days.days(situation.database)


def _of_days(situation: Situation) -> Iterator[str]:
    """Yield how many are complete, and of those that a night still asks for why they are not."""
    compared = _days(situation)
    if compared:
        complete = sum(each.complete for each in compared)
        told = (
            f"Compared with Prembly's log: {complete} of {counted(len(compared), 'day')}"
            " complete, up to"
        )
        yield f"{told} {compared[0].day}."
    for each in compared[: days.NIGHTS]:
        if each.needs_somebody:
            yield each.sentence


_PUBLIC_KEY = re.compile(r"(^|_)pk(_|$)", re.IGNORECASE)


def promises(settings: Config) -> Iterator[str]:
    """Yield that pending ones are asked for."""
    if PENDING.of(settings) is not None:
        yield "Asks Prembly for the results of pending verifications."


def warnings(checked: Checked) -> Iterator[str]:
    """Yield what is odd about how Prembly is asked, and what for."""
    yield from _of_prembly(checked.settings)
    yield from _of_pending(checked.settings)


def _of_prembly(settings: Config) -> Iterator[str]:
    """Yield what is odd about whom and how Prembly is asked, without quoting a secret."""
    api = PREMBLY.of(settings)
    key = api.api_key.reveal() if api and api.api_key else ""
    if PLACEHOLDER.match(key):
        yield "prembly api_key: it is a placeholder; put your account's secret key there"
    elif _PUBLIC_KEY.search(key):
        yield "prembly api_key: it looks like the public key (…pk_…); the API takes the secret one"
    if api and api.url.startswith("http://") and urlsplit(api.url).hostname not in LOOPBACK:
        yield f"prembly: {api.url} is not https: the key and the answers are sent unencrypted"


def _of_pending(settings: Config) -> Iterator[str]:
    """Yield that nothing runs for what Prembly answers."""
    are_for = [action for action in settings.actions if events.matches(action.types, events.STATUS)]
    if PENDING.of(settings) is not None and not are_for:
        yield (
            f"pending: no action is for the type {events.STATUS}, so nothing runs for what Prembly"
            " answers: list it in an action's `types`"
        )


LAST_INQUIRIES = 2000  # what is looked at of them: there may be any number
UNREACHABLE = 3  # questions in a row without an answer
UNREACHABLE_MS = 10 * 60_000  # for which they have to last
LONG_WAIT_MS = 60_000  # a shorter pause is none to speak of
DOWNTIME_DAYS = 30  # what is older was lived with
GRACE_MS = 60_000  # what is this new, `reconcile` leaves out: it may be on its way


@trouble()
def contradicted(situation: Situation) -> Iterator[Item]:
    """Yield events of which Prembly says something else than they do."""
    if count := listing.count_contradicted(situation.database, situation.since_ms):
        yield Item(
            severity=Severity.URGENT,
            text=f"{counted(count, 'event was', 'events were')} contradicted by Prembly when it was"
            " asked to confirm: forged, sent again after a change, or changed at Prembly since."
            " The hooks did not run.",
            remedy="Look at what the event says and what Prembly says. If it was forged, somebody"
            " knows your key and URL: change both. A replay leaves these events alone.",
            target=Target(page="events", flag="contradicted"),
            count=count,
        )


@trouble()
def prembly(situation: Situation) -> Iterator[Item]:
    """Yield that Prembly refuses the API key, or can't be reached, as far as the last questions
    tell."""
    query = Inquiry.select(Inquiry.at_ms, Inquiry.result, Inquiry.wait_until_ms)
    last = query.order_by(Inquiry.id.desc()).limit(LAST_INQUIRIES)
    asked = [
        row for row in queries.tuples(situation.database, last) if row[0] >= situation.since_ms
    ]
    if not asked:
        return
    _, result, wait_until_ms = asked[0]
    others = (position for position, (_, each, _) in enumerate(asked) if each != result)
    in_a_row = next(others, len(asked))
    since_ms = asked[in_a_row - 1][0]
    since = times.for_people(since_ms)
    waits = (wait_until_ms or 0) - situation.now_ms >= LONG_WAIT_MS
    if result == InquiryResult.REFUSED:
        text = f"Prembly has refused your API key since {since} UTC: nothing is confirmed."
        remedy = "Compare `prembly: {api_key}` with Prembly's dashboard, then restart premblyd."
    elif (
        result == InquiryResult.UNAVAILABLE
        and in_a_row >= UNREACHABLE
        and situation.now_ms - since_ms >= UNREACHABLE_MS
    ):
        text = (
            f"Prembly has not answered since {since} UTC: {in_a_row} questions without an answer."
        )
        remedy = "It is retried automatically. Is Prembly down, or the network?"
    elif waits:
        text = "Prembly asked for a pause, or can't answer."
        remedy = "It continues by itself, or at once after a restart or a reload with changes."
    else:
        return
    if waits:
        until = times.for_people(wait_until_ms)
        text += f" All questions wait until {until} UTC, and hooks with `confirm` with them."
    yield Item(
        severity=Severity.URGENT if result == InquiryResult.REFUSED else Severity.WARNING,
        text=text,
        remedy=remedy,
        command="premblyd check",
        count=in_a_row,
    )


DISMISS = "`premblyd unsettled --dismiss EVENT` (or `all`) dismisses it."


@trouble()
def doubted(situation: Situation) -> Iterator[Item]:
    """Yield events that say VERIFIED, and something that does not fit, until somebody has looked at
    them or Prembly was asked."""
    if count := len(listing.undismissed_ids(situation.database)["doubted"]):
        yield Item(
            text=f"{counted(count, 'event says', 'events say')} VERIFIED, but also something that"
            " does not fit: another code or status, a face that does not match. The outcome is"
            " unknown.",
            remedy="Look at the event, and look the verification up in Prembly's dashboard."
            f" {DISMISS}",
            target=Target(page="events", flag="doubted"),
            count=count,
        )


@trouble()
def differs(situation: Situation) -> Iterator[Item]:
    """Yield doubted events of which Prembly says VERIFIED, until somebody has looked at them."""
    if count := len(listing.undismissed_ids(situation.database)["differs"]):
        yield Item(
            text=f"Prembly confirms VERIFIED for {counted(count, 'event')} that also said"
            " something that does not fit. No hook ran for that answer.",
            remedy=f"Look the verification up in Prembly's dashboard. {DISMISS}",
            target=Target(page="events", flag="doubted"),
            count=count,
        )


@trouble()
def shared(situation: Situation) -> Iterator[Item]:
    """Yield ids that Prembly's answers give to two verifications."""
    query = VerificationName.select(fn.COUNT(VerificationName.id)).where(
        VerificationName.claimed_at_ms >= situation.since_ms
    )
    if count := queries.value(situation.database, query):
        yield Item(
            text=f"{counted(count, 'id is', 'ids are')} in Prembly's answers about two"
            " verifications each. It stays with the one that had it first, and hooks with `once`"
            " run for both.",
            remedy="Look up in Prembly's dashboard whether the two are of one person. If they are,"
            " undo what a hook did twice.",
            target=Target(page="events", since_ms=situation.since_ms),
            count=count,
        )


@trouble(reminds=True)
def given_up(situation: Situation) -> Iterator[Item]:
    """Yield verifications about which Prembly was asked for a week, and never answered."""
    if count := len(listing.undismissed_ids(situation.database)["given_up"]):
        yield Item(
            text=f"{counted(count, 'verification was', 'verifications were')} given up: Prembly"
            " was asked for a week, and never answered.",
            remedy=f"Ask Prembly, or let the person try again. {DISMISS}",
            command="premblyd unsettled --state given_up",
            target=Target(page="events"),
            count=count,
        )


@trouble(reminds=True)
def downtime(situation: Situation) -> Iterator[Item]:
    """Yield times in which no webhook could be stored, and after which nobody has looked whether
    something is missing, where Prembly can be asked for it."""
    settings = situation.settings
    prembly = PREMBLY.of(settings) if settings else None
    if prembly is None or prembly.api_key is None:
        return
    since_ms = situation.now_ms - DOWNTIME_DAYS * DAY_MS
    query = (
        Downtime.select(Downtime.from_ms, Downtime.until_ms)
        .where(Downtime.reconciled_at_ms.is_null(), Downtime.until_ms >= since_ms)
        .order_by(Downtime.id)
    )
    for from_ms, until_ms in queries.tuples(situation.database, query):
        start, end = (times.for_people(ms) for ms in (from_ms, until_ms))
        yield Item(
            text=f"From {start} to {end} UTC no webhook could be stored.",
            remedy="Prembly sends most webhooks only once: ask it for the missed ones"
            + (", in a minute." if situation.now_ms - until_ms < GRACE_MS else "."),
            # To the second before.
            command=f"premblyd reconcile --since {times.iso(from_ms // 1000 * 1000)} --store",
        )


def of_delivery(columns: Mapping[str, Any]) -> Iterator[str]:
    """Yield when Prembly confirmed the event of a delivery."""
    if columns["confirmed_at_ms"] is not None:
        yield f"confirmed by Prembly {times.for_people(columns['confirmed_at_ms'])} UTC"


PROMISES = (promises,)
WARNINGS = (warnings,)
STATUS = (Part("days", _days, _of_days, nothing=[]),)
OF_EVENT = (of_event,)
OF_DELIVERY = (of_delivery,)
OF_REPLAY = (of_replay,)
TROUBLES = (contradicted, prembly, doubted, differs, shared, given_up, downtime)
