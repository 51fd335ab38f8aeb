"""Which alerts were sent, and when, so that a restart repeats none; and which could not be sent."""

import asyncio
from collections.abc import Iterable

from premblyd.engines.engine import Transaction
from premblyd.engines.writer import Step, Writer
from premblyd.model.statements import Statement, param
from premblyd.model.tables import AlertFailure, AlertSent

# By alert, and what it told of: a kind of trouble, or `kind subject`. When it was told.
Sent = dict[tuple[str, str], int]


class AlertLog:
    """Keeps when each alert told of each thing last, until that is over."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def read(self) -> "asyncio.Future[Sent]":
        """Return what was sent. Raise StoreUnavailableError when the database can't be used."""

        def operation(transaction: Transaction) -> Sent:
            return {(name, kind): at_ms for name, kind, at_ms in transaction.rows(_READ)}

        return self._writer.call(operation, Step.EVIDENCE)

    def keep(
        self, name: str, told: Iterable[str], over: Iterable[str], at_ms: int
    ) -> "asyncio.Future[None]":
        """Keep that the alert `name` told of `told`, and that what is `over` is. Raise
        StoreUnavailableError when it can't be kept."""

        def operation(transaction: Transaction) -> None:
            for kind in told:
                transaction.change(_KEEP, name=name, kind=kind, sent_at_ms=at_ms)
            for kind in over:
                transaction.change(_FORGET, name=name, kind=kind)
            transaction.change(_WORKS, name=name)

        return self._writer.call(operation, Step.EVIDENCE)

    def keep_failure(
        self, name: str, at_ms: int, error: str | None, output: str | None
    ) -> "asyncio.Future[None]":
        """Keep that the alert `name` could not be sent, until it is sent. Raise
        StoreUnavailableError when it can't be kept."""

        def operation(transaction: Transaction) -> None:
            transaction.change(_FAILED, name=name, failed_at_ms=at_ms, error=error, output=output)

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
_FORGET = Statement(
    AlertSent.delete().where(AlertSent.name == param("name"), AlertSent.kind == param("kind"))
)
_FAILURE = {
    AlertFailure.failed_at_ms: param("failed_at_ms"),
    AlertFailure.error: param("error"),
    AlertFailure.output: param("output"),
}
_FAILED = Statement(
    AlertFailure.insert({AlertFailure.name: param("name"), **_FAILURE}).on_conflict(
        conflict_target=[AlertFailure.name], update=_FAILURE
    )
)
_WORKS = Statement(AlertFailure.delete().where(AlertFailure.name == param("name")))
