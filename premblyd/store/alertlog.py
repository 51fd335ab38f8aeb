"""Which alerts were sent, and when: so that a restart repeats none."""

import asyncio
from collections.abc import Iterable

from premblyd.store.engine import Transaction
from premblyd.store.models import AlertSent
from premblyd.store.statements import Statement, param
from premblyd.store.writer import Step, Writer

Sent = dict[tuple[str, str], int]  # by alert and kind of trouble: when


class AlertLog:
    """Keeps when each alert told of each kind of trouble last."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def read(self) -> "asyncio.Future[Sent]":
        """Return what was sent. Raise StoreUnavailableError when the database can't be used."""

        def operation(transaction: Transaction) -> Sent:
            return {(name, kind): at_ms for name, kind, at_ms in transaction.rows(_READ)}

        return self._writer.call(operation, Step.EVIDENCE)

    def keep(self, name: str, kinds: Iterable[str], at_ms: int) -> "asyncio.Future[None]":
        """Keep that the alert `name` told of `kinds`. Raise StoreUnavailableError when it can't be
        kept."""

        def operation(transaction: Transaction) -> None:
            for kind in kinds:
                transaction.change(_KEEP, name=name, kind=kind, sent_at_ms=at_ms)

        return self._writer.call(operation, Step.EVIDENCE)


_READ = Statement(AlertSent.select(AlertSent.name, AlertSent.kind, AlertSent.sent_at_ms))
_KEEP = Statement(
    AlertSent.insert(
        {
            AlertSent.name: param("name"),
            AlertSent.kind: param("kind"),
            AlertSent.sent_at_ms: param("sent_at_ms"),
        }
    ).on_conflict(
        conflict_target=[AlertSent.name, AlertSent.kind],
        update={AlertSent.sent_at_ms: param("sent_at_ms")},
    )
)
