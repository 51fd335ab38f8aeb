"""Troubles with Prembly: contradicted events, unanswered questions, times of which it was not asked
what is missing."""

from collections.abc import Iterator

from peewee import fn

from premblyd.features.asking import criteria
from premblyd.features.asking.settings import PREMBLY
from premblyd.features.asking.tables import Inquiry
from premblyd.ground import times
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted
from premblyd.record import queries
from premblyd.record.troubles.trouble import Item, Severity, Situation, Target, trouble
from premblyd.store.states import InquiryResult
from premblyd.store.tables import Downtime, VerificationName

LAST_INQUIRIES = 2000  # what is looked at of them: there may be any number
UNREACHABLE = 3  # questions in a row without an answer
UNREACHABLE_MS = 10 * 60_000  # for which they have to last
LONG_WAIT_MS = 60_000  # a shorter pause is none to speak of
DOWNTIME_DAYS = 30  # what is older was lived with
GRACE_MS = 60_000  # what is this new, `reconcile` leaves out: it may be on its way


@trouble(means="Prembly contradicted events that it was asked to confirm", passes=False)
def contradicted(situation: Situation) -> Iterator[Item]:
    """Yield events of which Prembly says something else than they do."""
    if count := criteria.count_contradicted(situation.database, situation.since_ms):
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


@trouble(means="Prembly refuses the API key, or can't be reached")
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


@trouble(means="bodies said VERIFIED, but also something that does not fit", passes=False)
def doubted(situation: Situation) -> Iterator[Item]:
    """Yield events that say VERIFIED, and something that does not fit, until somebody has looked at
    them or Prembly was asked."""
    if count := len(criteria.undismissed_ids(situation.database)["doubted"]):
        yield Item(
            text=f"{counted(count, 'event says', 'events say')} VERIFIED, but also something that"
            " does not fit: another code or status, a face that does not match. The outcome is"
            " unknown.",
            remedy="Look at the event, and look the verification up in Prembly's dashboard."
            f" {DISMISS}",
            target=Target(page="events", flag="doubted"),
            count=count,
        )


@trouble(means="Prembly confirmed VERIFIED for doubted events", passes=False)
def differs(situation: Situation) -> Iterator[Item]:
    """Yield doubted events of which Prembly says VERIFIED, until somebody has looked at them."""
    if count := len(criteria.undismissed_ids(situation.database)["differs"]):
        yield Item(
            text=f"Prembly confirms VERIFIED for {counted(count, 'event')} that also said"
            " something that does not fit. No hook ran for that answer.",
            remedy=f"Look the verification up in Prembly's dashboard. {DISMISS}",
            target=Target(page="events", flag="doubted"),
            count=count,
        )


@trouble(means="Prembly's answers give an id to two verifications", passes=False)
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


@trouble(means="Prembly was asked for a week, and never answered", passes=False, reminds=True)
def given_up(situation: Situation) -> Iterator[Item]:
    """Yield verifications about which Prembly was asked for a week, and never answered."""
    if count := len(criteria.undismissed_ids(situation.database)["given_up"]):
        yield Item(
            text=f"{counted(count, 'verification was', 'verifications were')} given up: Prembly"
            " was asked for a week, and never answered.",
            remedy=f"Ask Prembly, or let the person try again. {DISMISS}",
            command="premblyd unsettled --state given_up",
            target=Target(page="events"),
            count=count,
        )


@trouble(means="for more than an hour no webhook could be stored", reminds=True)
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


TROUBLES = (contradicted, prembly, doubted, differs, shared, given_up, downtime)
