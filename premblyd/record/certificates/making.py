"""Makes the certificate of a day. Begin with `make`.

The log's verifications are compared in portions, and the events of the day are walked through in
portions: of each verification a digest and some words are kept, and of each event its number.
"""

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from peewee import fn

from premblyd import __version__
from premblyd.ask.client import Inquirer
from premblyd.ask.log import Log, Window, fetching, read_log
from premblyd.config.inquiries import PremblyApi
from premblyd.config.models import Config
from premblyd.engines.engine import Database
from premblyd.errors import PremblydError, StoreUnavailableError
from premblyd.model.keeptables import Removal, Removed
from premblyd.prembly import events
from premblyd.record import queries
from premblyd.record.certificates.certificate import Certificate, Verification
from premblyd.record.certificates.comparing import Comparing
from premblyd.record.certificates.summary import (
    FORMAT,
    Counts,
    LogRead,
    Reason,
    Received,
    Summary,
    statement,
    why_not,
)
from premblyd.times import DAY_MS, Clock, day

GRACE_MS = 60_000  # what is this new may be on its way


async def make(
    settings: Config,
    database: Database,
    day_ms: int,
    *,
    clock: Clock,
    show: Callable[[str, int, int | None], object] = lambda *_: None,
) -> Certificate:
    """Return the certificate of the day that begins at `day_ms`. Where Prembly can't be asked, it
    says so."""
    window = Window(since_ms=day_ms, until_ms=day_ms + DAY_MS)
    names_ms = settings.retention.names_ms
    too_old_ms = None if names_ms is None else clock.now_ms() - names_ms
    comparing = Comparing(database=database, window=window, too_old_ms=too_old_ms)
    reading = _Reading(comparing, show)
    with contextlib.closing(Inquirer(clock)) as inquirer:
        inquirer.configure(settings.prembly)
        await reading.read(settings, inquirer)
    received, is_pruned = comparing.received(is_log_whole=reading.log.is_whole)
    is_pruned = is_pruned or _was_pruned(database, day_ms)
    return _certificate(comparing, reading, received, clock.now_ms(), is_pruned=is_pruned)


@dataclass(slots=True)
class _Reading:
    """Prembly's log, as far as it could be read. Each page is compared, and let go."""

    comparing: Comparing
    show: Callable[[str, int, int | None], object]
    log: Log = field(default_factory=Log)
    stopped_by: PremblydError | None = None

    async def read(self, settings: Config, inquirer: Inquirer) -> None:
        """Read the log. Raise StoreUnavailableError when the record can't be read."""
        question = (settings.prembly or PremblyApi()).logs

        def compare(log: Log) -> None:
            self.log = log
            self.comparing.add(log.entries.values())
            log.entries.clear()
            self.show("reading the log", log.pages, log.total_pages)

        window = self.comparing.window
        try:
            await read_log(question, window, fetching(inquirer, question), after_page=compare)
        except StoreUnavailableError:
            raise
        except PremblydError as error:
            self.stopped_by = error

    @property
    def told(self) -> LogRead:
        return LogRead(
            asked=self.log.pages > 0 or self.log.is_whole,
            whole=self.log.is_whole,
            pages=self.log.pages,
            total_pages=self.log.total_pages,
            without_id=self.log.without_id,
            without_time=self.comparing.without_time,
            of_another_time=self.log.outside,
            not_expected=self.log.not_expected,
            error=str(self.stopped_by) if self.stopped_by else None,
            not_asked_for=self.log.not_asked_for,
            moved=self.log.has_moved,
            answered_at_ms=self.log.answered_at_ms,
        )


def _was_pruned(database: Database, day_ms: int) -> bool:
    """Return whether `retention` may have removed events of this day, or what names them."""
    classes = (Removed.IDENTITY.value, Removed.RECORD.value)
    newest = Removal.select(fn.MAX(Removal.day_ms - Removal.period_ms)).where(
        Removal.removed.in_(classes), Removal.count > 0
    )
    newest_ms = queries.value(database, newest)
    return isinstance(newest_ms, int) and newest_ms + DAY_MS > day_ms


def _certificate(
    comparing: Comparing,
    reading: _Reading,
    received: dict[str, Received],
    made_at_ms: int,
    *,
    is_pruned: bool,
) -> Certificate:
    window, log, by_type = comparing.window, reading.told, comparing.counts()
    total = Counts.of(by_type.values())
    is_pruned = is_pruned or bool(total.too_old)
    answered_at_ms = made_at_ms if log.answered_at_ms is None else log.answered_at_ms
    is_over = window.until_ms + GRACE_MS <= min(made_at_ms, answered_at_ms)
    reasons = [*why_not(log=log, total=total, is_over=is_over, is_pruned=is_pruned)]
    if log.whole and not total.in_log and (count := _about_verifications(received)):
        reasons.append(Reason.of_empty_log(count))
    is_empty = not (reasons or total.in_log or log.not_expected)
    complete = not (reasons or is_empty)
    nonce = secrets.token_hex(16)
    summary = Summary(
        format=FORMAT,
        day=day(window.since_ms),
        since_ms=window.since_ms,
        until_ms=window.until_ms,
        made_at_ms=made_at_ms,
        version=__version__,
        complete=complete,
        statement=statement(day(window.since_ms), total, complete=complete, is_empty=is_empty),
        reasons=tuple(reasons),
        pruned=is_pruned,
        log=log,
        total=total,
        by_type=by_type,
        received=received,
        key=comparing.digests.id,
        fingerprint=_fingerprint(nonce, comparing.verifications()),
    )
    return Certificate(
        summary=summary,
        verifications=comparing.verifications,
        nonce=nonce,
        stopped_by=reading.stopped_by,
    )


def _about_verifications(received: Mapping[str, Received]) -> int:
    """Return how many of the events are of verifications, which the log should have."""
    return sum(its.events for type_, its in received.items() if events.is_about_verification(type_))


def _fingerprint(nonce: str, verifications: Iterable[Verification]) -> str:
    """Return the digest of all digests: SHA-256 of the nonce and, in their order, of a line for
    each verification."""
    digest = hashlib.sha256(f"{nonce}\n".encode())
    for each in verifications:
        digest.update(f"{each.digest} {each.type} {' '.join(each.states)}\n".encode())
    return digest.hexdigest()
