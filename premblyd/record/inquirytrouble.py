"""Trouble with what is asked of Prembly: kinds of `attention`."""

from collections.abc import Iterator
from dataclasses import dataclass

from peewee import Database, fn

from premblyd import times
from premblyd.model.tables import IS_DOUBTED, Event, Inquiry, InquiryResult
from premblyd.record import asking, contradictions, fetching
from premblyd.record.trouble import Item, Severity, Situation, Target

LAST_INQUIRIES = 2000  # what is looked at of them: there may be any number
UNREACHABLE = 3  # questions in a row without an answer
UNREACHABLE_MS = 10 * 60_000  # for which they have to last
LONG_WAIT_MS = 60_000  # a shorter pause is none to speak of


@dataclass(frozen=True, slots=True)
class _Asked:
    at_ms: int
    purpose: str
    result: str
    wait_until_ms: int | None


def contradicted(situation: Situation) -> Iterator[Item]:
    """Yield events of which Prembly says something else than they do."""
    count = contradictions.count(situation.database, situation.since_ms)
    if count:
        were = "1 event was" if count == 1 else f"{count:,} events were"
        yield Item(
            kind="contradicted",
            severity=Severity.URGENT,
            text=f"{were} contradicted by Prembly when it was asked to confirm: forged, sent again"
            " after a change, or changed at Prembly since. The hooks did not run.",
            remedy="Look at what the event says and what Prembly says. If it was forged, somebody"
            " knows your key and URL: change both. A replay leaves these events alone.",
            command="premblyd events --contradicted",
            target=Target(page="events", flag="contradicted"),
            count=count,
        )


def doubted(situation: Situation) -> Iterator[Item]:
    """Yield events that say VERIFIED, and something that does not fit."""
    query = Event.select(fn.COUNT(Event.id)).where(
        IS_DOUBTED, Event.received_at_ms >= situation.since_ms
    )
    [(count,)] = fetching.tuples(situation.database, query)
    if count:
        say = "1 event says" if count == 1 else f"{count:,} events say"
        yield Item(
            kind="doubted",
            severity=Severity.WARNING,
            text=f"{say} VERIFIED, and something that does not fit: another code or status, a face"
            " that does not match. The outcome is unknown, and Prembly is not asked for it.",
            remedy="Look at what does not fit, and the verification up in Prembly's dashboard.",
            command="premblyd events --since 24h --doubted",
            target=Target(page="events", flag="doubted", since_ms=situation.since_ms),
            count=count,
        )


def prembly(situation: Situation) -> Iterator[Item]:
    """Yield that Prembly refuses the API key, or can't be reached, as far as the last questions
    tell."""
    asked = _last_inquiries(situation)
    if not asked:
        return
    result = asked[0].result
    in_a_row = 0
    for each in asked:
        if each.result != result:
            break
        in_a_row += 1
    since_ms = asked[in_a_row - 1].at_ms
    since = times.for_people(since_ms)
    if result == InquiryResult.REFUSED:
        text = f"Prembly refuses your API key since {since} UTC: nothing is confirmed."
        remedy = "Compare `prembly: {api_key}` with Prembly's dashboard, then restart premblyd."
    elif (
        result == InquiryResult.UNAVAILABLE
        and in_a_row >= UNREACHABLE
        and situation.now_ms - since_ms >= UNREACHABLE_MS
    ):
        text = f"Prembly could not be asked since {since} UTC: {in_a_row} questions without answer."
        remedy = "It is tried again by itself. Is Prembly down, or the way to it?"
    elif _waits(asked[0], situation.now_ms):
        text = "Prembly asked for a pause, or can't answer."
        remedy = "It goes on by itself, and sooner after a restart or a reload with changes."
    else:
        return
    if _waits(asked[0], situation.now_ms):
        until = times.for_people(asked[0].wait_until_ms or 0)
        text += f" All questions wait until {until} UTC, and hooks with `confirm` with them."
    yield Item(
        kind="prembly",
        severity=Severity.URGENT if result == InquiryResult.REFUSED else Severity.WARNING,
        text=text,
        remedy=remedy,
        command="premblyd check",
        target=Target(page=""),
        count=in_a_row,
    )


def _waits(newest: _Asked, now_ms: int) -> bool:
    """Return whether nothing is asked for a while, as far as the newest question tells."""
    until_ms = newest.wait_until_ms
    return isinstance(until_ms, int) and until_ms - now_ms >= LONG_WAIT_MS


def given_up(situation: Situation) -> Iterator[Item]:
    """Yield verifications of which nobody learned what became."""
    count = asking.given_up(situation.database, since_ms=situation.since_ms)
    if count:
        were = "1 verification was" if count == 1 else f"{count:,} verifications were"
        yield Item(
            kind="given_up",
            severity=Severity.WARNING,
            text=f"{were} given up: pending for so long, and Prembly never said what became.",
            remedy="Ask Prembly, or let the person try again.",
            command="premblyd pending --state given_up",
            target=Target(page="events", since_ms=situation.since_ms),
            count=count,
        )


def _last_inquiries(situation: Situation) -> list[_Asked]:
    """Return the last questions since the time that matters, the newest first."""
    return [
        asked
        for asked in _read(situation.database)
        if isinstance(asked.at_ms, int) and asked.at_ms >= situation.since_ms
    ]


def _read(database: Database) -> list[_Asked]:
    query = Inquiry.select(
        Inquiry.at_ms, Inquiry.purpose, Inquiry.result, Inquiry.wait_until_ms
    ).order_by(Inquiry.id.desc())
    return [_Asked(*row) for row in fetching.tuples(database, query.limit(LAST_INQUIRIES))]
