"""How deliveries end. The one way out is `end`: whatever ends them, in whatever process, does it by
that. The runs of hooks end many at once, in two statements for all of them; what a crash has left
runs again or ends (`interrupt`)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar

from peewee import CTE, SQL, Case, Expression, Query

from premblyd.prembly.payload import without_nul
from premblyd.queue import hooks
from premblyd.queue.hooks import End, withheld
from premblyd.queue.jobs import Due, Ending, Job, Result
from premblyd.store.columns import emptied_if
from premblyd.store.engine import BulkUpdate, Row, Transaction, param, update
from premblyd.store.states import AttemptOutcome, State
from premblyd.store.tables import IS_LAST_ATTEMPT, Attempt, Delivery
from premblyd.store.writer import Deferred, Operation, Step

CRASHED = "the daemon stopped while the hook ran"
UNSTARTED = "the database failed as the hook was to start; it did not run"
Done = TypeVar("Done")


def end(transaction: Transaction, ends: Sequence[End], write: Callable[[], Done]) -> Done:
    """End deliveries by what `write` does, and have features do what they do then."""
    for ending in hooks.of(transaction).ending:
        ending(transaction, ends)
    done = write()
    left = [each for each in ends if (its := each.job or each.due) is None or its.group is not None]
    for ended in hooks.of(transaction).ended if left else ():
        ended(transaction, left)
    return done


def lock(transaction: Transaction, delivery_ids: Sequence[int]) -> None:
    """Lock what changes when these end, or are queued again, before anything of them is changed."""
    for locks in hooks.of(transaction).lock:
        locks(transaction, delivery_ids)


def may_end(transaction: Transaction, delivery: Due) -> bool:
    """Return whether a claim may end a due delivery; else the next one does."""
    return not any(keeps(transaction, delivery) for keeps in hooks.of(transaction).keeps_open)


def close_open_attempt(
    transaction: Transaction, delivery_id: int, now_ms: int, error: str = CRASHED
) -> None:
    """Close the delivery's attempt that has no outcome yet, if there is one, as interrupted."""
    transaction.write(
        _CLOSE_OPEN_ATTEMPT,
        delivery_id=delivery_id,
        finished_at_ms=now_ms,
        outcome=AttemptOutcome.INTERRUPTED,
        error=error,
    )


def release(
    transaction: Transaction,
    delivery_id: int,
    state: State,
    now_ms: int,
    error: str | None,
    due: Due | None = None,
) -> None:
    """Let a delivery go that runs: it is due now, or has ended. `due`: see End."""
    row = {"id": delivery_id, "state": state, "last_error": error}
    if state is State.PENDING:
        transaction.write(_RELEASE, **row, due_at_ms=now_ms, finished_at_ms=None)
        return
    over = row | {"due_at_ms": None, "finished_at_ms": now_ms}
    end(
        transaction, [End(delivery_id, state, due=due)], lambda: transaction.write(_RELEASE, **over)
    )


def interrupt(
    transaction: Transaction,
    delivery_id: int,
    attempts_left: int,
    now_ms: int,
    due: Due | None = None,
) -> bool:
    """Close the attempt that a process left open when it died. Return whether the delivery has
    another: without one it is dead."""
    has_attempts = attempts_left > 0
    close_open_attempt(transaction, delivery_id, now_ms)
    state = State.PENDING if has_attempts else State.DEAD
    release(transaction, delivery_id, state, now_ms, CRASHED, due)
    return has_attempts


class Report(NamedTuple):
    """How the run of a job's hook ended."""

    job: Job
    result: Result
    ending: Ending


def is_claimed_by(delivery_id: Any, claim_token: Any) -> Expression:
    """Return the condition that a delivery runs, and nobody else has claimed or ended it since this
    claim. No number tells that: after a failover to a standby that lacked the newest, the server
    gives the same ones again, for other events."""
    its_tokens = Attempt.select(Attempt.claim_token).where(IS_LAST_ATTEMPT)
    # As text: for a param, SQLite looks which partial indexes it lets in, and plans each time anew.
    is_running = (Delivery.id == delivery_id) & (Delivery.state == SQL(f"'{State.RUNNING}'"))
    held: Expression = is_running & claim_token.in_(its_tokens)
    return held


class _End(NamedTuple):
    """The statements that end runs."""

    delivery: BulkUpdate
    attempt: BulkUpdate


def _finish(transaction: Transaction, reports: list[Report]) -> list[Deferred[bool]]:
    """Write down what is reported. True: the claim of the job stood, or its end was written down
    before."""
    groups: dict[_End, list[Report]] = {}
    for report in reports:
        groups.setdefault(_end_of(report), []).append(report)
    closed = end(
        transaction,
        [End(job.delivery_id, ending.state, job) for job, _, ending in reports],
        lambda: [_end_all(transaction, each, its) for each, its in groups.items()],
    )
    return [Deferred(partial(_is_closed, closed, report.job.claim_token)) for report in reports]


def _end_all(
    transaction: Transaction, statements: _End, reports: list[Report]
) -> Callable[[], Collection[str]]:
    """Write down what is reported; return what reads the tokens of the claims that stood."""
    deliveries: list[Row] = []
    attempts: list[Row] = []
    for job, result, ending in reports:
        finished_at_ms = ending.at_ms if ending.due_at_ms is None else None
        deliveries.append(
            (
                *(job.delivery_id, job.claim_token, ending.state, ending.due_at_ms),
                *(finished_at_ms, ending.attempts_left, result.error, ending.at_ms),
            )
        )
        attempts.append(
            (
                *(job.attempt_id, job.claim_token, ending.at_ms, result.outcome, result.exit_code),
                *(result.http_status, result.error, _storable(result.output)),
                result.output_truncated,
            )
        )
    transaction.changing_many(statements.delivery, deliveries)
    return transaction.changing_many(statements.attempt, attempts)


def _storable(output: str | None) -> str | None:
    """Return what can be stored of what a hook printed: without NUL, and no longer for that."""
    if output is None or "\0" not in output:
        return output
    return without_nul(output).encode()[: len(output.encode())].decode("utf-8", "ignore")


def _is_closed(closed: Sequence[Callable[[], Collection[str]]], claim_token: str) -> bool:
    return any(claim_token in tokens() for tokens in closed)


def _end_of(report: Report) -> _End:
    if report.job.event.is_erased:  # before it ran: it was told of nobody, and says nothing of it
        return _END_ALL_SAID
    end_, go_on = _of_told()
    return go_on if report.ending.state in (State.PENDING, State.DEAD) else end_


Values = Mapping[str, Any]  # by the names of columns
_HELD = {"id": int, "claim_token": str}  # what is changed, if its claim stood
_ENDING = {
    "state": str,
    "due_at_ms": int,
    "finished_at_ms": int,
    "attempts_left": int,
    "last_error": str,
}
_CLOSING = {
    "finished_at_ms": int,
    "outcome": str,
    "exit_code": int,
    "http_status": int,
    "error": str,
    "output": str,
    "output_truncated": bool,
}


def _ending(written: Callable[[Values, CTE], Any]) -> BulkUpdate:
    """Return the statement that writes into deliveries what `written` makes of the values."""

    def query(given: CTE) -> Query:
        values = {name: getattr(given.c, name) for name in _ENDING}
        ending: Query = Delivery.update(written(values, given))
        return ending.where(is_claimed_by(given.c.id, given.c.claim_token))

    return BulkUpdate(query, Delivery.id, {**_HELD, **_ENDING, "ended_at_ms": int})


def _closing(written: Callable[[Values], Any]) -> BulkUpdate:
    """Return the statement that writes into attempts what `written` makes of the values."""

    def query(given: CTE) -> Query:
        values = {name: getattr(given.c, name) for name in _CLOSING}
        closing: Query = Attempt.update(written(values))
        is_claim = (Attempt.id == given.c.id) & (Attempt.claim_token == given.c.claim_token)
        # Its delivery, if the claim still had it, does not run any more: that was written right
        # before. Or it has ended so already, and was reported before.
        is_open = Attempt.outcome.is_null() & (_STATE != State.RUNNING)
        is_reported = (Attempt.finished_at_ms == given.c.finished_at_ms) & (
            Attempt.outcome == given.c.outcome
        )
        return closing.where(is_claim & (is_open | is_reported))

    return BulkUpdate(query, Attempt.claim_token, {**_HELD, **_CLOSING})


@cache
def _of_told() -> tuple[_End, _End]:
    """Return the statements that end runs of hooks that were told of somebody: nothing of it is
    kept if their event was erased meanwhile. The other ones are of those that are to run again, or
    to be mended: then these end."""
    of_delivery = withheld(Delivery.event)
    of_attempt = withheld(Delivery.select(Delivery.event).where(Delivery.id == Attempt.delivery))

    def nameless(values: Values, _: CTE) -> Any:
        return emptied_if(of_delivery, Delivery, values)

    def going_on(values: Values, given: CTE) -> Any:
        over = {"state": State.CANCELLED, "due_at_ms": None, "finished_at_ms": given.c.ended_at_ms}
        return nameless(values, given) | {
            getattr(Delivery, name): Case(None, [(of_delivery, value)], values[name])
            for name, value in over.items()
        }

    closing = _closing(lambda values: emptied_if(of_attempt, Attempt, values))
    return _End(_ending(nameless), closing), _End(_ending(going_on), closing)


_STATE = Delivery.select(Delivery.state).where(Delivery.id == Attempt.delivery)
_END_ALL_SAID = _End(_ending(lambda values, _: values), _closing(lambda values: values))
FINISH: Operation[Report, bool] = Operation(Step.FINISHES, _finish)
_CLOSE_OPEN_ATTEMPT = update(
    Attempt,
    "finished_at_ms",
    "outcome",
    "error",
    where=(Attempt.delivery == param("delivery_id")) & Attempt.outcome.is_null(),
)
_RELEASE = update(
    Delivery, "state", "due_at_ms", "finished_at_ms", "last_error", where=Delivery.id == param("id")
)
