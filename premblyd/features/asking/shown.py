"""What people are told of asking Prembly: at an event, by `check`, by `status`, and as troubles."""

import math
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from peewee import fn

from premblyd.config.keys import value_of
from premblyd.config.models import Config
from premblyd.config.values import LOOPBACK
from premblyd.features.asking import days, listing
from premblyd.features.asking.days import Day
from premblyd.features.asking.listing import AwaitedRow, InquiryRow, contradicted_ids
from premblyd.features.asking.settings import PENDING, PREMBLY, may_ask
from premblyd.features.asking.states import InquiryResult
from premblyd.features.asking.tables import Awaited, Inquiry
from premblyd.features.names.tables import VerificationName
from premblyd.ground import times
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted
from premblyd.prembly import events
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
from premblyd.store.tables import Downtime

ASK_ABOVE = 20  # questions


def of_event(database: Database, event: WholeEvent, show: Show, _: Config | None) -> Told:
    """Return what Prembly was asked, and whether it contradicts the event."""
    query = contradicted_ids().where(Inquiry.event == event.id)
    is_contradicted = bool(queries.tuples(database, query))
    awaited = [show(row) for row in _awaited(database, event.id, event.reference)]
    inquiries = [InquiryRow(**show(row)) for row in _inquiries(database, event.id)]
    blocks = [_unsettled(row) for row in awaited]
    if inquiries:
        lines = [_line(row, of_person=has_person(event)) for row in inquiries]
        blocks.append(Block(title="Questions to Prembly", lines=lines))
    hint = "Prembly contradicts it: see the questions to Prembly below."
    return Told(
        values={"contradicted": is_contradicted, "awaited": awaited, "inquiries": inquiries},
        lines=[hint] if is_contradicted else [],
        blocks=blocks,
    )


def _unsettled(row: Mapping[str, Any]) -> Block:
    lines = []
    if row["due_at_ms"] is not None:
        lines.append(f"asked next at {times.for_people(row['due_at_ms'])} UTC")
    if row["settled_by_id"] is not None:
        lines.append(f"settled by event {row['settled_by_id']}")
    if row["last_error"]:
        lines.append(row["last_error"])
    asked = f"{row['state']} after {counted(row['ask_count'], 'question')} to Prembly"
    return Block(title=f"Unsettled {row['id']}:", more=asked, lines=lines)


def _line(inquiry: InquiryRow, *, of_person: bool) -> str:
    of_none = "its session" if of_person else "a deleted name"
    asked_for = f"reference {inquiry.reference}" if inquiry.reference else of_none
    told = f": {inquiry.error}" if inquiry.error else ""
    told += f"  (HTTP {inquiry.http_status})" if inquiry.http_status else ""
    told += f", stored as event {inquiry.stored_event_id}" if inquiry.stored_event_id else ""
    at = times.for_people(inquiry.at_ms)
    return f"{at} UTC  {inquiry.purpose}, {asked_for}: {inquiry.result}{told}"


def _inquiries(database: Database, event_id: int) -> list[InquiryRow]:
    """Return the questions to Prembly about an event, and the one whose answer it is, the oldest
    first."""
    is_its = (Inquiry.event == event_id) | (Inquiry.stored_event == event_id)
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


def warnings(checked: Checked) -> Iterator[str]:
    """Yield what is odd about how Prembly is asked, and what for."""
    settings, api = checked.settings, PREMBLY.of(checked.settings)
    if api and api.url.startswith("http://") and urlsplit(api.url).hostname not in LOOPBACK:
        yield f"prembly: {api.url} is not https: the key and the answers are sent unencrypted"
    are_for = [action for action in settings.actions if events.matches(action.types, events.STATUS)]
    if PENDING.of(settings) is not None and not are_for:
        yield (
            f"pending: no action is for the type {events.STATUS}, so nothing runs for what Prembly"
            " answers: list it in an action's `types`"
        )


LAST_INQUIRIES = 2000  # what is looked at of them: there may be any number
UNREACHABLE = 3  # questions in a row without an answer
UNREACHABLE_MS = 10 * 60_000  # for which they have to last
DOWNTIME_DAYS = 30  # what is older was lived with


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
    query = Inquiry.select(Inquiry.at_ms, Inquiry.result)
    last = query.order_by(Inquiry.id.desc()).limit(LAST_INQUIRIES)
    asked = [
        row for row in queries.tuples(situation.database, last) if row[0] >= situation.since_ms
    ]
    if not asked:
        return
    _, result = asked[0]
    others = (position for position, (_, each) in enumerate(asked) if each != result)
    in_a_row = next(others, len(asked))
    since_ms = asked[in_a_row - 1][0]
    since = times.for_people(since_ms)
    lasts = situation.now_ms - since_ms >= UNREACHABLE_MS and in_a_row >= UNREACHABLE
    is_refused = result == InquiryResult.REFUSED
    if is_refused:
        text = f"Prembly has refused your API key since {since} UTC: nothing is confirmed."
        remedy = "Compare `prembly: {api_key}` with Prembly's dashboard, then restart premblyd."
    elif result == InquiryResult.UNAVAILABLE and lasts:
        text = f"Prembly has not answered since {since} UTC."
        remedy = "It is retried automatically. Is Prembly down, or the network?"
    else:
        return
    yield Item(
        severity=Severity.URGENT if is_refused else Severity.WARNING,
        text=text,
        remedy=remedy,
        command="premblyd check",
        count=in_a_row,
    )


@trouble()
def doubted(situation: Situation) -> Iterator[Item]:
    """Yield events that say VERIFIED, and something that does not fit, until somebody has looked at
    them or Prembly was asked."""
    yield from _undismissed(
        situation,
        "doubted",
        "{} VERIFIED, but also something that does not fit: another code or status, a face that"
        " does not match. The outcome is unknown.",
        ("event says", "events say"),
    )


@trouble()
def differs(situation: Situation) -> Iterator[Item]:
    """Yield doubted events of which Prembly says VERIFIED, until somebody has looked at them."""
    yield from _undismissed(
        situation,
        "differs",
        "Prembly confirms VERIFIED for {} that also said something that does not fit. No hook ran"
        " for that answer.",
        ("event", "events"),
    )


@trouble(reminds=True)
def given_up(situation: Situation) -> Iterator[Item]:
    """Yield verifications about which Prembly was asked for a week, and never answered."""
    yield from _undismissed(
        situation,
        "given_up",
        "{} given up: Prembly was asked for a week, and never answered.",
        ("verification was", "verifications were"),
        "premblyd unsettled --state given_up",
    )


def _undismissed(
    situation: Situation, kind: str, text: str, words: tuple[str, str], command: str = ""
) -> Iterator[Item]:
    if count := len(listing.undismissed_ids(situation.database)[kind]):
        yield Item(
            text=text.format(counted(count, *words)),
            remedy="Look the verification up in Prembly's dashboard. `premblyd unsettled --dismiss"
            " EVENT` (or `all`) dismisses it.",
            command=command,
            target=Target(page="events", flag=None if command else "doubted"),
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
def downtime(situation: Situation) -> Iterator[Item]:
    """Yield times in which no webhook could be stored, and after which nobody has looked whether
    something is missing, where Prembly can be asked for it."""
    settings = situation.settings
    if settings is None or not may_ask(settings):
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
            remedy="Prembly sends most webhooks only once: ask it for the missed ones.",
            # To the second before.
            command=f"premblyd reconcile --since {times.iso(from_ms // 1000 * 1000)} --store",
        )


def of_delivery(columns: Mapping[str, Any]) -> Iterator[str]:
    """Yield when Prembly confirmed the event of a delivery."""
    if columns["confirmed_at_ms"] is not None:
        yield f"confirmed by Prembly {times.for_people(columns['confirmed_at_ms'])} UTC"


WARNINGS = (warnings,)
STATUS = (Part("days", _days, _of_days, nothing=[]),)
OF_EVENT = (of_event,)
OF_DELIVERY = (of_delivery,)
OF_REPLAY = (of_replay,)
TROUBLES = (contradicted, prembly, doubted, differs, shared, given_up, downtime)
