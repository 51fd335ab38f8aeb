"""The queue of deliveries: claim, finish, and what a crash leaves behind.

`due_at_ms` is the queue: the first try, the retry time or the end of a lease; NULL is out of it.
Each claim has a random token, in its attempt: a report about a claim that was superseded, or lost
by a failover, changes nothing. The attempt row is written at claim, so a crash leaves it open and
it is closed as interrupted; a hook that kills the daemon spends its attempts and ends dead instead
of looping.

The database is open to other programs. A delivery whose row or event somebody changed so that its
hook can't run ends dead with that reason, and the others go on.
"""

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from premblyd.engines.engine import UNREADABLE, Transaction
from premblyd.engines.writer import Step, Writer
from premblyd.model.states import State
from premblyd.queue import damage, once, order, queue_statements
from premblyd.queue.claims import NEVER_MS, Found, Queued, Rota, Waiting, release
from premblyd.queue.confirmed import Confirmed
from premblyd.queue.damage import CRASHED, UNSTARTED, Due, UnusableError
from premblyd.queue.jobs import IDLE, Claimable, Claimed, Ending, Job, Load, Result
from premblyd.queue.once import Ruling
from premblyd.queue.shares import Shares
from premblyd.verifications import awaited
from premblyd.verifications.names import learn_names, lock_names


class Queue:
    """The deliveries that wait or run."""

    def __init__(self, writer: Writer, worker: str) -> None:
        self._writer = writer
        self._worker = worker
        self._claims = f"claims {worker}"  # the name of a lock, held while a claim is not decided
        self._looks, self._starts = Rota(), Rota()  # of the actions
        self._bookmarks: dict[str, Due] = {}  # where claims go on, see Queued
        self._waits_for_room: str | None = None  # the action that is first when there is room
        self._looks_in_vain = 0  # at actions, since the last one that changed anything

    def recover(self, now_ms: int) -> "asyncio.Future[list[int]]":
        """Make what the last process left running due now. Return which deliveries these are."""

        def operation(transaction: Transaction) -> list[int]:
            rows = transaction.rows(queue_statements.RUNNING)
            for delivery_id, attempts_left in rows:
                interrupt(transaction, delivery_id, attempts_left, now_ms)
            return [delivery_id for delivery_id, _ in rows]

        return self._writer.call(operation, Step.CLAIMS)

    def release_unstarted(self, running: Collection[int], now_ms: int) -> "asyncio.Future[bool]":
        """Make those of this process's running deliveries due now that are not in `running`, at
        no cost of an attempt: a claim failed, yet the disk may hold it (SQLite reports a COMMIT
        that can't be synced as failed, and finds it whole when it opens the log anew).

        False: that can't be told yet. PostgreSQL still works on a claim that this process has
        given up, because it waits for a standby, say."""

        def operation(transaction: Transaction) -> bool:
            if not transaction.try_lock(self._claims):
                return False
            rows = transaction.rows(queue_statements.RUNNING_OF, worker=self._worker)
            for delivery_id, _ in rows:
                if delivery_id not in running:
                    damage.close_open_attempt(transaction, delivery_id, now_ms, UNSTARTED)
                    transaction.change(queue_statements.REFUND_ATTEMPT, id=delivery_id)
                    release(transaction, delivery_id, State.PENDING, now_ms, UNSTARTED)
            return True

        return self._writer.call(operation, Step.CLAIMS)

    def claim(
        self,
        actions: Mapping[str, Claimable],
        limit: int,
        running: Collection[int],
        now_ms: int,
        load: Load = IDLE,
    ) -> "asyncio.Future[Claimed]":
        """Open an attempt for up to `limit` due deliveries, within each action's free slots and its
        share of all (`Shares`), those of an action in the order in which they became due, as far as
        their bodies find room. `running` are this process's own: their lease may look spent after
        the clock was set, but they are not claimed twice.

        Of `actions` there may be thousands, so no claim looks at them all.
        Deliveries of actions that are not among them end dead, and so do unusable ones. A daemon
        that the others have taken for lost gets nothing, until it lives again.
        """

        return self._writer.call(
            lambda transaction: self._claim(transaction, actions, limit, running, now_ms, load),
            Step.CLAIMS,
        )

    def _claim(
        self,
        transaction: Transaction,
        actions: Mapping[str, Claimable],
        limit: int,
        running: Collection[int],
        now_ms: int,
        load: Load,
    ) -> Claimed:
        shares = Shares(actions, limit, load)

        def slots_of(name: str) -> int:
            action = actions[name]
            free = max(0, action.slots - load.hooks.get(name, 0))
            if action.confirm:
                free = min(free, load.confirmable)
            return min(free, shares.slots_of(name))

        waiting = _waiting_actions(transaction, self._worker, now_ms)
        waiting.sort(key=lambda action: self._looks.place(action.name))
        queue = Queued(
            transaction, self._worker, running, now_ms, actions, slots_of, self._bookmarks
        )
        found = queue.find(waiting)
        self._looks.had_turn(found.looked_at, actions)
        if found.due and not transaction.try_lock(self._claims):
            return Claimed([], None, found.passed)
        chosen = shares.choose(found.due, self._starts.place, self._waits_for_room)
        self._waits_for_room = shares.waits_for_room
        self._starts.had_turn((delivery.action for delivery in chosen), actions)
        chosen.sort(key=lambda delivery: (delivery.due_at_ms, delivery.id))
        started = [
            self._try_to_start(transaction, delivery, actions[delivery.action], now_ms)
            for delivery in chosen
        ]
        jobs = [job for job in started if job is not None]
        passed = found.passed + len(started) - len(jobs)
        has_more = self._has_more(found, has_changed=bool(jobs or passed))
        return Claimed(jobs, queue.next_due_ms(waiting, found), passed, has_more)

    def _has_more(self, found: Found, *, has_changed: bool) -> bool:
        """Return whether there are actions with due deliveries that no claim has looked at since
        the last one that changed anything."""
        self._looks_in_vain = 0 if has_changed else self._looks_in_vain + len(found.looked_at)
        if len(found.looked_at) < found.action_count > self._looks_in_vain:
            return True
        self._looks_in_vain = 0
        return False

    def finish(self, job: Job, result: Result, ending: Ending) -> "asyncio.Future[bool]":
        """Close the job's attempt with its result, and move the delivery as `ending` says.
        False: the lease was lost, nothing changed.

        It may be told again: a COMMIT whose answer was lost may have been kept."""

        def operation(transaction: Transaction) -> bool:
            moved = transaction.change(
                queue_statements.FINISH_DELIVERY,
                id=job.delivery_id,
                claim_token=job.claim_token,
                state=ending.state,
                due_at_ms=ending.due_at_ms,
                finished_at_ms=ending.finished_at_ms,
                attempts_left=ending.attempts_left,
                last_error=result.error,
            )
            if not moved:
                return _was_reported(transaction, job, result, ending)
            transaction.change(
                queue_statements.CLOSE_ATTEMPT,
                attempt_id=job.attempt_id,
                claim_token=job.claim_token,
                finished_at_ms=ending.at_ms,
                outcome=result.outcome,
                exit_code=result.exit_code,
                http_status=result.http_status,
                error=result.error,
                output=result.output,
                output_truncated=result.output_truncated,
            )
            return True

        # Ending it changes its line.
        names = () if job.order_key is None else (order.lock_name(job.order_key),)
        return self._writer.call(operation, Step.FINISHES, names)

    def confirm(
        self,
        job: Job,
        confirmed: Confirmed,
        at_ms: int,
        names: Sequence[str] = (),
        *,
        is_once: bool = False,
    ) -> "asyncio.Future[Ruling | None]":
        """Write down what Prembly's answer of `at_ms` confirmed of the job's event, and by which
        names it knows the verification: its hook runs now. `is_once`: unless the ruling says that
        another has, or does, because of these names. None: the lease was lost, nothing changed."""

        def operation(transaction: Transaction) -> Ruling | None:
            if names:
                transaction.lock(lock_names(names))
            held = transaction.row(
                queue_statements.HOLDS, id=job.delivery_id, claim_token=job.claim_token
            )
            if held is None:
                return None
            ruling = Ruling()
            known = learn_names(transaction, names, at_ms)
            if is_once and known:
                verdict = confirmed.job(job).event.verdict
                ruling = once.rule(transaction, job, known, verdict, at_ms)
            if ruling.other_id is not None:
                if ruling.wait_ms is None:
                    once.note_other(transaction, job.delivery_id, ruling.other_id)
                return ruling
            changed = transaction.change(
                queue_statements.CONFIRM,
                id=job.delivery_id,
                claim_token=job.claim_token,
                attempts_left=job.attempts_left,
                confirmed_at_ms=at_ms,
                confirmed_sha256=confirmed.sha256,
                confirmed_facts=confirmed.text,
                confirmed_key=ruling.key,
            )
            return ruling if changed else None

        return self._writer.call(operation, Step.FINISHES, alone=bool(names))

    def prove(self, job: Job) -> "asyncio.Future[bool]":
        """Return whether the claim of `job` stands: nobody has taken it over. The others learn in
        the same transaction that this daemon lives, so that nobody does soon."""

        def operation(transaction: Transaction) -> bool:
            is_alive = transaction.change(queue_statements.SHOW_LIFE, worker=job.worker) > 0
            held = transaction.row(
                queue_statements.HOLDS, id=job.delivery_id, claim_token=job.claim_token
            )
            return is_alive and held is not None

        return self._writer.call(operation, Step.LIFE)

    def end_broken(self, now_ms: int) -> "asyncio.Future[None]":
        """End all whose columns contradict their state: somebody wrote them before the database
        refused it, and nothing else may be written of them."""

        def operation(transaction: Transaction) -> None:
            broken = transaction.rows(queue_statements.ALL_BROKEN)
            damage.end_broken(transaction, broken, now_ms)

        return self._writer.call(operation)

    def shift(self, by_ms: int, now_ms: int) -> "asyncio.Future[None]":
        """Move due times by `by_ms`, those of what is awaited too: the wall clock was set to
        `now_ms`, but delays are durations.

        What was created since then is due by the new clock already. (After a step back they
        can't be told from older ones. They are moved too: they become due earlier, and they are
        due anyway.) What `finish` was told before this is moved, and what it is told later is not:
        call this as soon as the clock follows.
        """
        before_ms = now_ms if by_ms > 0 else NEVER_MS

        def operation(transaction: Transaction) -> None:
            for statement in (queue_statements.SHIFT, awaited.SHIFT):
                transaction.change(statement, by_ms=by_ms, before_ms=before_ms)

        return self._writer.call(operation, Step.FINISHES)  # in one with them: in their order

    def _try_to_start(
        self, transaction: Transaction, delivery: Due, action: Claimable, now_ms: int
    ) -> Job | None:
        """Return the delivery's job; None when it has ended instead."""
        try:
            if delivery.state == State.RUNNING and not interrupt(
                transaction, delivery.id, delivery.attempts_left, now_ms
            ):
                return None
            return self._start(transaction, delivery, action, now_ms)
        except UnusableError as error:
            damage.end_unusable(transaction, [delivery.id], str(error), now_ms)
            return None

    def _start(
        self, transaction: Transaction, delivery: Due, action: Claimable, now_ms: int
    ) -> Job:
        event = damage.stored_event(transaction, delivery.id)
        number = delivery.attempt_count + 1
        claim_token = secrets.token_hex(8)
        attempt_id = transaction.insert(
            queue_statements.OPEN_ATTEMPT,
            delivery_id=delivery.id,
            number=number,
            worker=self._worker,
            action_digest=action.digest,
            started_at_ms=now_ms,
            claim_token=claim_token,
        )
        if attempt_id is None:  # there is an attempt of this number
            raise UnusableError(damage.COUNTS_CHANGED)
        is_confirmed = delivery.confirmed_at_ms is not None
        transaction.change(
            queue_statements.START_DELIVERY,
            id=delivery.id,
            due_at_ms=now_ms + action.lease_ms,
            cost=1 if is_confirmed or not action.confirm else 0,
        )
        subject = once.subject_of(transaction, delivery.id) if action.once else None
        key = subject.key if subject else None
        if key is not None:
            once.give_key(transaction, delivery.action, delivery.id, key)
        job = Job(
            delivery_id=delivery.id,
            attempt_id=attempt_id,
            attempt=number,
            attempts_left=delivery.attempts_left - 1,
            claim_token=claim_token,
            started_at_ms=now_ms,
            action=delivery.action,
            worker=self._worker,
            event=event,
            order_key=delivery.order_key,
            once_key=key,
            is_confirmed=is_confirmed,
        )
        return _as_confirmed(transaction, job) if is_confirmed else job


def _as_confirmed(transaction: Transaction, job: Job) -> Job:
    """Return a job with what Prembly confirmed of its event, before an earlier attempt."""
    row = transaction.row(queue_statements.CONFIRMED_FACTS, id=job.delivery_id)
    if row is None or row[0] is None:  # by a premblyd that did not keep them
        return job
    try:
        return Confirmed.read(row[0]).job(job)
    except (ValueError, TypeError):
        raise UnusableError(damage.CONFIRMED_CHANGED) from None


def _was_reported(transaction: Transaction, job: Job, result: Result, ending: Ending) -> bool:
    """Return whether the job's attempt has ended so already."""
    found = transaction.row(
        queue_statements.REPORTED,
        attempt_id=job.attempt_id,
        claim_token=job.claim_token,
        finished_at_ms=ending.at_ms,
        outcome=result.outcome,
    )
    return found is not None


def _waiting_actions(transaction: Transaction, worker: str, now_ms: int) -> list[Waiting]:
    """Return the actions that have deliveries in the queue for `worker`. End those whose action is
    no text: no statement could name it."""
    rows = transaction.rows(queue_statements.WAITING_ACTIONS, worker=worker)
    waiting = [Waiting(*row) for row in rows]
    readable = [action for action in waiting if _is_readable(action.name)]
    if len(readable) < len(waiting):
        queued = transaction.rows(queue_statements.QUEUED_ACTIONS)
        unreadable = [delivery_id for delivery_id, name in queued if not _is_readable(name)]
        damage.end_unusable(transaction, unreadable, damage.ACTION_CHANGED, now_ms)
    return readable


def _is_readable(name: Any) -> bool:
    return isinstance(name, str) and UNREADABLE not in name


def interrupt(transaction: Transaction, delivery_id: int, attempts_left: int, now_ms: int) -> bool:
    """Close the attempt that a process left open when it died. Return whether the delivery has
    another: without one, or if it can't be true, it is dead."""
    if broken := transaction.rows(queue_statements.BROKEN_OF, id=delivery_id):
        damage.end_broken(transaction, broken, now_ms)
        return False
    has_attempts = attempts_left > 0
    damage.close_open_attempt(transaction, delivery_id, now_ms)
    state = State.PENDING if has_attempts else State.DEAD
    release(transaction, delivery_id, state, now_ms, CRASHED)
    return has_attempts
