"""What a certificate says in numbers and words: all of it but the digests. It names nobody, and so
it is kept."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from premblyd.words import counted

FORMAT = "premblyd-certificate/1"
TITLE = "Certificate of completeness"
MOVED = (
    "entries of Prembly's log moved between its pages while they were read, so that some may be"
    " missed. Try again later."
)
NOT_ASKED_FOR = (
    "of a time that it was not asked for. `prembly.logs.time_zone` says in which zone its times"
    ' are; `prembly.logs.parameters: {since: "", until: ""}`, that it is asked for all times.'
)


@dataclass(slots=True, kw_only=True)
class Counts:
    """How many of the verifications in Prembly's log. Each that has ended is in the record,
    missing, erased or too old; the others say more of some of these."""

    in_log: int = 0
    not_ended: int = 0
    in_record: int = 0
    missing: int = 0
    unsettled: int = 0
    doubted: int = 0
    differs: int = 0
    given_up: int = 0
    acted_upon: int = 0
    unconfirmed: int = 0
    erased: int = 0
    too_old: int = 0

    @classmethod
    def of(cls, parts: Iterable[Self]) -> Self:
        """Return the sum of some."""
        several = [asdict(each) for each in parts]
        return cls(**{name: sum(each[name] for each in several) for name in COLUMNS})

    def add(self, states: Iterable[str]) -> None:
        """Count a verification of which each of these is true."""
        for name in states:
            setattr(self, name, getattr(self, name) + 1)


@dataclass(slots=True, kw_only=True)
class Received:
    """How many of the events that were received on the day. `not_in_log`: of which the day's log
    names no verification; None: the log is not known whole."""

    events: int = 0
    acted_upon: int = 0
    unconfirmed: int = 0
    erased: int = 0
    not_in_log: int | None = 0
    nameless: int = 0  # have neither a reference nor a session


# Of each count: how a table heads it, and what it says.
COLUMNS = {
    "in_log": ("In log", "Prembly's log has it of this day"),
    "not_ended": ("Not ended", "by the log it had not ended: nothing is expected yet"),
    "in_record": ("In record", "the record has an event of it, which Prembly has not denied"),
    "missing": ("Missing", "it has ended, and the record has no event of it"),
    "unsettled": ("Unsettled", "an event came, and none says how it ended"),
    "doubted": ("Doubted", "what came says it twice and differently, and Prembly was not asked"),
    "differs": ("Differs", "Prembly says something else than the record"),
    "given_up": ("Given up", "nothing says how it ended, and Prembly says no more"),
    "acted_upon": ("Acted upon", "a hook has succeeded for it"),
    "unconfirmed": ("Unconfirmed", "acted upon, and no answer of Prembly's confirms it"),
    "erased": ("Erased", "its person was erased on request"),
    "too_old": ("Too old", "what names it was removed by `retention`, if it came"),
}
RECEIVED_COLUMNS = {
    "events": "Events",
    "acted_upon": "Acted upon",
    "unconfirmed": "Unconfirmed",
    "erased": "Erased",
    "not_in_log": "Not in log",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRead:
    """How far Prembly's log of the day was read. `error`: what ended that early. What has a default
    is not in what an earlier premblyd kept."""

    asked: bool
    whole: bool
    pages: int
    total_pages: int | None
    without_id: int
    without_time: int
    of_another_time: int
    not_expected: int
    error: str | None
    not_asked_for: int = 0  # of those of another time: though that was not asked for
    moved: bool = False  # each reading listed something else
    answered_at_ms: int | None = None  # by Prembly's clock; None: it did not say


@dataclass(frozen=True, slots=True)
class Reason:
    """Why completeness is not certified. `reason`: a word for programs."""

    reason: str
    words: str

    @classmethod
    def of_empty_log(cls, events: int) -> Self:
        """The log has nothing, and the record has so many events of verifications."""
        return cls(
            "log_empty",
            f"Prembly's log has nothing of this day, and the record has"
            f" {counted(events, 'event')}: is the API key that of another account or environment?",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a certificate says. `key`: the id of the key of its digests; `fingerprint`: the digest
    of all of them."""

    format: str
    day: str
    since_ms: int
    until_ms: int
    made_at_ms: int
    version: str
    complete: bool
    statement: str
    reasons: tuple[Reason, ...]
    pruned: bool
    log: LogRead
    total: Counts
    by_type: Mapping[str, Counts]
    received: Mapping[str, Received]
    key: str
    fingerprint: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, text: Any) -> Self | None:
        """Return what was kept; None for what somebody has put in its place."""
        try:
            said: dict[str, Any] = json.loads(text)
            if said["format"] != FORMAT:
                return None
            return cls(
                **said
                | {
                    "reasons": tuple(Reason(**each) for each in said["reasons"]),
                    "log": LogRead(**said["log"]),
                    "total": Counts(**said["total"]),
                    "by_type": {name: Counts(**each) for name, each in said["by_type"].items()},
                    "received": {name: Received(**each) for name, each in said["received"].items()},
                }
            )
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
            return None


def why_not(*, log: LogRead, total: Counts, is_over: bool, is_pruned: bool) -> Iterator[Reason]:
    """Yield why completeness can't be certified; nothing: it is, or there is nothing to compare."""
    if not log.asked:
        words = "Prembly's log could not be asked, so nothing is known of what is missing."
        yield Reason("log_not_asked", f"{words} {log.error or ''}".strip())
    elif log.moved:
        yield Reason("log_moved", f"Not sure: {MOVED}")
    elif not log.whole:
        of = f" of {counted(log.total_pages, 'page')}" if log.total_pages else ""
        error = log.error or "It says the same again, or has more than it gives."
        words = f"Prembly's log was read in part: {counted(log.pages, 'page')}{of}. {error}"
        yield Reason("log_read_in_part", words)
    if not is_over:
        words = "The day was not over, by UTC, when this was made: by the clock of this machine, or"
        yield Reason("day_not_over", f"{words} by Prembly's, which its answers tell.")
    if is_pruned:
        yield Reason(
            "pruned",
            "`retention` has removed events of this day, or what names them: what the record had"
            " can't be told any more.",
        )
    no_time = "time that says whether it is of this day: `prembly.logs.time` says where it is."
    for reason, count, lack in (
        ("without_id", log.without_id, "id by which the record could be compared."),
        ("without_time", log.without_time, no_time),
    ):
        if count:
            entries, has = counted(count, "entry", "entries"), "has" if count == 1 else "have"
            yield Reason(reason, f"{entries} of Prembly's log {has} no {lack}")
    if log.not_asked_for:
        entries = counted(log.not_asked_for, "entry", "entries")
        yield Reason("of_another_time", f"Prembly's log gave {entries} {NOT_ASKED_FOR}")
    if total.missing:
        missing = counted(total.missing, "verification is", "verifications are")
        yield Reason("missing", f"{missing} missing.")
    if total.unsettled:
        ended = counted(total.unsettled, "verification has", "verifications have")
        yield Reason("unsettled", f"{ended} ended, and no event says how.")
    if total.doubted:
        doubted = counted(total.doubted, "verification is", "verifications are")
        yield Reason("doubted", f"{doubted} doubted, and Prembly was not asked yet.")
    if total.differs:
        other = counted(total.differs, "verification")
        yield Reason("differs", f"Prembly says something else of {other} than the record.")


def statement(day: str, total: Counts, *, complete: bool, is_empty: bool = False) -> str:
    """Return what is certified, or that nothing is. `is_empty`: of Prembly's log."""
    if is_empty:
        return f"Nothing to compare: Prembly's log has nothing of {day}."
    if not complete:
        return f"Not certified: it is not shown that the record of {day} is complete."
    ended = total.in_log - total.not_ended
    open_ = (
        f" {counted(total.not_ended, 'verification')} more had not ended."
        if total.not_ended
        else ""
    )
    if not ended:
        return (
            f"Complete: Prembly's log has no verification of {day} that had ended, so that none is"
            f" missing.{open_}"
        )
    in_vain = ", or Prembly says no more of it" if total.given_up else ""
    return (
        f"Complete: of {counted(ended, 'verification')} of {day} that had ended by Prembly's log,"
        f" each is in the record, with how it ended, or was erased on request{in_vain}.{open_}"
    )


def facts(summary: Summary) -> Iterator[str]:
    """Yield how it was made, in sentences."""
    log = summary.log
    if log.asked:
        how_far = "whole" if log.whole else "in part"
        yield f"Prembly's log was read {how_far}: {counted(log.pages, 'page')}."
    else:
        yield "Prembly's log could not be asked."
    if log.not_expected:
        entries = counted(log.not_expected, "entry", "entries")
        yield f"No event is expected, by `prembly.logs.when`, of {entries} of it: left out."
    if log.of_another_time:
        yield f"Of another day, and left out: {counted(log.of_another_time, 'entry', 'entries')}."
    if nameless := sum(its.nameless for its in summary.received.values()):
        yield (
            f"{counted(nameless, 'event')} of the day can't be compared: there is neither a"
            " reference nor a session."
        )
    if summary.total.given_up:
        given_up = counted(summary.total.given_up, "verification")
        yield (
            f"Of {given_up} nothing says how it ended: Prembly was asked, and says no more than"
            " what came."
        )
    if any(its.not_in_log for its in summary.received.values()):
        yield (
            "An event that is not in the log may be of a verification of the day before, or of the"
            " sandbox, or forged: look at those that were acted upon."
        )
    yield (
        "It compares what Prembly says with what is kept here: nobody but Prembly can tell whether"
        " its log is complete."
    )
