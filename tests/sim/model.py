"""What premblyd promises, each in one sentence, and how it is seen from outside.

`Model` knows what the world saw (webhooks and their answers, runs of hooks, Prembly's answers, what
operators did) and reads the database by a connection of its own. It raises Broken.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from premblyd.config.models import Action, Config
from premblyd.features.asking.settings import CONFIRM, PENDING
from premblyd.features.keeping.settings import RETENTION
from premblyd.features.turns.settings import ONCE, ORDER, then_of
from premblyd.prembly.payload import plain_id, same_id
from premblyd.queue.end import CRASHED
from tests.sim.hooks import Run
from tests.sim.virtual import Time
from tests.sim.world import FINAL, Given, Person, Post

SLACK_S = 15 * 60.0  # after what is due: rounds of loops, and questions at their rate
NOTICED_S = 1.0  # so long after an erasure a hook may begin that was claimed before
MOST_ROWS = 20
MOST_COMMITS = 3000  # in a minute
FINAL_EXIT = 127
DOUBTS = 4  # questions without a result before an event counts as unconfirmed
DOUBT_S = 300.0
MOST_S = 1800.0  # between two questions


def d(delivery: object) -> str:
    return f"delivery {delivery}"


def e(event: object) -> str:
    return f"event {event}"


class Broken(KeyboardInterrupt):
    """A promise is broken. `about`: what the story is to be told of."""

    def __init__(self, promise: str, *about: object) -> None:
        super().__init__(promise)
        self.record: list[str] = []  # what the database has of it
        self.promise, self.about = promise, set(map(str, about))


@dataclass
class Model:
    """The world's memory, and the questions it asks of the database."""

    SLACK_S = 0.01  # of a clock that nobody sets

    connection: Any  # its own to the database
    time: Time
    settings: Config
    posts: list[Post] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    given: list[Given] = field(default_factory=list)
    paused: dict[str, float] = field(default_factory=dict)  # since when
    replayed: dict[int, float] = field(default_factory=dict)  # deliveries, and when
    cancelled: set[int] = field(default_factory=set)
    clock_set_s: float = float("-inf")  # the last time that somebody set a clock
    clock_was_set: bool = False
    off: str = ""  # the feature that is turned off
    turned_off: set[str] = field(default_factory=set)  # those that were, for a while
    lost_jump: bool = False  # it was set before the machine started, and no daemon saw it
    clock_jumped_s: float = float("-inf")
    down_s: float = 0.0  # for how long no daemon ran, in all
    calm_since_s: float = 0.0  # a daemon runs, the machine is awake, nothing is paused, all works
    can_ask: bool = True
    checks: Counter[str] = field(default_factory=Counter)
    _last_attempt: int = 0
    _held: dict[int, str] = field(default_factory=dict)  # what is not to be removed of events
    _claims: dict[tuple[int, int], float] = field(default_factory=dict)
    _commits: tuple[float, int] = (0, 0)  # a minute; how many there were in it
    _waiting: dict[tuple[int, int], float] = field(default_factory=dict)  # attempts; since when

    def __post_init__(self) -> None:
        self.actions: dict[str, Action] = {each.name: each for each in self.settings.actions}
        self._by_event: dict[int, Post] = {}

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.connection.execute(sql, values).fetchall()
        return found

    def close(self) -> None:
        self.connection.close()

    def require(self, holds: object, promise: str, *about: object) -> None:
        self.checks[promise.partition(":")[0]] += 1
        if not holds:
            raise Broken(promise, *about)

    def record_of(self, about: Collection[str]) -> list[str]:
        """Return the rows of deliveries, as text."""
        lines = []
        for delivery in sorted(int(each[9:]) for each in about if each.startswith("delivery ")):
            for table, column in (
                ("delivery", "id"),
                ("attempt", "delivery_id"),
                ("inquiry", "delivery_id"),
            ):
                sql = f"SELECT * FROM {table} WHERE {column} = {delivery}"
                cursor = self.connection.execute(sql)
                names = [each[0] for each in cursor.description]
                for row in cursor:
                    values = zip(names, row, strict=True)
                    told = ", ".join(
                        f"{name} {value}" for name, value in values if value is not None
                    )
                    lines.append(f"{table}: {told}"[:300])
        return lines[:MOST_ROWS]

    # While it runs

    def acknowledged(self, post: Post, event: int, *, duplicate: bool) -> None:
        """A 200 means that the event is on the disk, once, with its deliveries."""
        self.require(post.signed, "nothing is taken without a right signature", post.name)
        now_s = self.time.now_s
        before = {number for number, _ in post.events}
        post.events.append((event, duplicate))
        self.require(before <= {event}, "one body is one event", e(event), post.name)
        known = self._by_event.setdefault(event, post)
        self.require(known is post, "two bodies are two events", e(event), post.name)
        self.require(
            not before or duplicate, "one body is new once: after that a duplicate", e(event)
        )
        if post.first_ack_s is None:
            post.first_ack_s = now_s
            # The daemon's own clock follows a jump at its next look at the queue, see POLLS.
            post.at_a_jump = now_s - self.clock_jumped_s < 30
            found = self.rows("SELECT action FROM delivery WHERE event_id = ?", event)
            expected = self.expected(post, duplicate=duplicate)
            is_erased = post.person.erased_s is not None
            stored = sorted(action for (action,) in found)
            if not is_erased and (stored or not duplicate):
                self.require(
                    stored == expected or (duplicate and set(stored) <= set(expected)),
                    f"acknowledged is stored with its deliveries: {stored} {expected}",
                    e(event),
                )
        self._look_at_event(event, post)

    def expected(self, post: Post, *, duplicate: bool) -> list[str]:
        """Return which actions a webhook is for."""
        del duplicate
        return sorted(
            name
            for name, action in self.actions.items()
            if {"*", post.code} & {str(code) for code in action.response_codes}
        )

    def is_loose(self, run: Run) -> bool:
        """Return whether a run is of a host that can't end it, so that others don't wait for it."""
        del run
        return False

    def committed(self) -> None:
        """See each claim in the moment in which it is on the disk."""
        minute, count = self.time.now_s // 60, self._commits[1]
        self._commits = minute, count + 1 if minute == self._commits[0] else 0
        self.require(count < MOST_COMMITS, "the daemon does not go round and round")
        rows = self.rows(
            "SELECT attempt.id, delivery_id, number, action FROM attempt"
            " JOIN delivery ON delivery.id = delivery_id WHERE attempt.id > ? ORDER BY attempt.id",
            self._last_attempt - 50,  # of several hosts, who has the lower number may commit later
        )
        for attempt_id, delivery, number, action in rows:
            self._last_attempt = max(self._last_attempt, attempt_id)
            if (delivery, number) in self._claims:
                continue
            self._claims[delivery, number] = self.time.now_s
            self.require(action not in self.paused, "a paused action begins nothing", d(delivery))
            (count,) = self.rows(
                "SELECT count(*) FROM attempt WHERE delivery_id = ? AND outcome IS NULL", delivery
            )[0]
            self.require(count <= 1, "one run of a delivery at a time: two claims", d(delivery))

    def begins(self, run: Run) -> None:
        """Ask all that must hold when a hook begins."""
        about = (d(run.delivery), e(run.event))
        rows = self.rows(
            "SELECT state, outcome, event_id, action FROM delivery"
            " LEFT JOIN attempt ON delivery_id = delivery.id AND number = ?"
            " WHERE delivery.id = ?",
            run.attempt,
            run.delivery,
        )
        found = rows[0] if rows else None
        expected = ("running", None, run.event, run.action)
        self.require(found == expected, f"a run has its open row in attempt: {found}", *about)
        self.require(
            (run.delivery, run.attempt) in self._claims, "a run has a claim of its own", *about
        )
        others = [each for each in self.runs if each.ended_s is None and not self.is_loose(each)]
        self.require(
            all(each.delivery != run.delivery for each in others),
            "never two runs of one delivery at once",
            *about,
        )
        self.require(
            all((run.delivery, run.attempt) != (each.delivery, each.attempt) for each in self.runs),
            "each run has an attempt of its own",
            *about,
        )
        action = self.actions[run.action]
        own = [each for each in others if (each.action, each.host) == (run.action, run.host)]
        self.require(len(own) < action.concurrency.host, "no more hooks than `concurrency`", *about)
        self._is_late_enough(run, action)
        post = self._by_event.get(run.event)
        person = post.person if post else self._person_of(run)
        if person is not None:
            self._is_not_erased(run, person)
            self._is_in_line(run, action, person, others)
            self._is_the_only(run, action, person, others)
        if CONFIRM.of(action) is not None and "confirm" not in self.turned_off:
            self._is_confirmed(run, post)
        if post is not None:
            self.require(
                not run.body or run.body == post.body, "a hook gets the body as it came", *about
            )
        self.runs.append(run)

    def _person_of(self, run: Run) -> Person | None:
        reference = plain_id(str(run.environment.get("PREMBLY_REFERENCE") or ""))
        return next((each for each in self.people if each.reference == reference), None)

    def _is_late_enough(self, run: Run, action: Action) -> None:
        """A retry waits for its delay, whatever is done to the clock."""
        last = [each for each in self.runs if each.delivery == run.delivery]
        if run.delivery not in self.replayed:
            again = [each for each in last if each.succeeded_s and each.life == run.life]
            self.require(
                not again, "what has succeeded runs again only after a crash", d(run.delivery)
            )
            finals = self.rows(
                "SELECT 1 FROM attempt WHERE delivery_id = ? AND exit_code = ?",
                run.delivery,
                FINAL_EXIT,
            )
            self.require(not finals, "what can't help is not tried again", d(run.delivery))
        rows = self.rows(
            "SELECT outcome, http_status FROM attempt WHERE delivery_id = ? AND number = ?",
            run.delivery,
            run.attempt - 1,
        )
        was_last = bool(last) and last[-1].attempt == run.attempt - 1
        if not rows or not was_last or rows[0][0] not in ("failed", "timed_out"):
            return
        ended_s = last[-1].ended_s or 0
        if self.replayed.get(run.delivery, -1) >= ended_s or self.clock_set_s >= ended_s:
            return
        least_s = min(action.retry.first_delay_ms, action.retry.max_delay_ms) / 2000
        least_s = max(least_s, 90 if rows[0][1] == 503 else 0)
        waited_s = run.began_s - ended_s
        self.require(
            waited_s >= least_s - (2.1 if self.clock_was_set else self.SLACK_S),
            f"a retry waits for its delay: {waited_s:.3f} s instead of {least_s}",
            d(run.delivery),
        )

    def _is_not_erased(self, run: Run, person: Person) -> None:
        """No hook is told of who was erased."""
        erased_s = person.erased_s
        if erased_s is None or run.began_s <= erased_s + NOTICED_S:
            return
        told = f"{run.body.decode()} {run.environment}"
        is_told = any(name in told for name in (person.name, person.user_ref))
        self.require(
            not is_told, "no hook is told of who was erased", d(run.delivery), e(run.event)
        )

    def _is_in_line(self, run: Run, action: Action, person: Person, others: Sequence[Run]) -> None:
        """With `order`, one at a time, in the order of receipt."""
        if ORDER.of(action) is None or person.erased_s is not None or "order" in self.turned_off:
            return
        own = {each.event for each in others if each.action == run.action}
        names = {event for event, post in self._by_event.items() if post.person is person}
        self.require(not own & names, "with order, one at a time", d(run.delivery), *map(e, own))
        rows = self.rows(
            "SELECT delivery.id, delivery.state FROM delivery JOIN event ON event.id = event_id"
            " WHERE action = ? AND delivery.id < ? AND (state IN ('pending', 'running')"
            " OR (state = 'dead' AND ? AND"
            " (? OR delivery.id IN (SELECT delivery_id FROM confirmation)) AND NOT EXISTS"
            " (SELECT 1 FROM inquiry WHERE inquiry.event_id = event.id"
            " AND result = 'contradicted'))) AND event.reference IS NOT NULL"
            " AND replace(replace(lower(event.reference), '_', ''), '-', '') = ?",
            run.action,
            run.delivery,
            then_of(action) == "wait",
            CONFIRM.of(action) is None,
            same_id(person.reference).replace("-", ""),
        )
        earlier = [each for each, _ in rows if each not in self.replayed]
        is_replayed = run.delivery in self.replayed
        self.require(
            is_replayed or not earlier, f"with order, in the order of receipt: {earlier}",
            d(run.delivery), *map(d, earlier),
        )  # fmt: skip

    def _is_the_only(self, run: Run, action: Action, person: Person, others: Sequence[Run]) -> None:
        """With `once`, no second success for a reference and an outcome."""
        if ONCE.of(action) is None or person.erased_s is not None or "once" in self.turned_off:
            return
        outcome = run.environment["PREMBLY_OUTCOME"]

        def is_like(each: Run) -> bool:
            same = plain_id(str(each.environment["PREMBLY_REFERENCE"])) == person.reference
            outcomes = each.environment["PREMBLY_OUTCOME"] == outcome
            return each.action == run.action and same and outcomes

        twins = [each for each in self.runs if is_like(each) and each.delivery != run.delivery]
        self.require(
            all(each.ended_s is not None or self.is_loose(each) for each in twins),
            "with once, one at a time",
            d(run.delivery),
            *(d(each.delivery) for each in twins),
        )
        done = [each.delivery for each in twins if each.succeeded_s is not None]
        for delivery in done:
            rows = self.rows("SELECT state FROM delivery WHERE id = ?", delivery)
            replayed_s = max(self.replayed.get(each, -1) for each in (delivery, run.delivery))
            self.require(
                replayed_s >= 0 or rows == [] or rows[0][0] != "succeeded",
                "with once, one success",
                d(run.delivery),
                d(delivery),
            )

    def _is_confirmed(self, run: Run, post: Post | None) -> None:
        """No hook that needs Prembly's word begins without an answer that says the same."""
        if post is None:
            told = run.environment.get("PREMBLY_STATUS")
            reference = plain_id(str(run.environment["PREMBLY_REFERENCE"]))
            del told
            since_s, word, user = 0.0, None, None
        else:
            reference, word = post.person.reference, post.word
            since_s, user = post.first_sent_s, post.user_ref
        answers = [
            each
            for each in self.given
            if each.reference == reference
            and each.word is not None
            and (word is None or each.word == word)
            and each.at_s >= since_s
            and (user is None or each.user_ref == user)
        ]
        told_of = post.word if post else "an answer"
        self.require(
            answers, f"confirmed only by Prembly: {told_of}", d(run.delivery), e(run.event)
        )
        is_told = str(run.environment["PREMBLY_CONFIRMED"]) == "True"
        self.require(is_told, "a confirmed hook is told so", d(run.delivery))

    def hold(self, person: Person) -> None:
        """Somebody is on hold: what is there of them stays."""
        for event, post in self._by_event.items():
            rows = self.rows("SELECT body IS NOT NULL, user_ref FROM event WHERE id = ?", event)
            if post.person is person and rows and rows[0][1] == person.user_ref:
                self._held[event] = "record, body" if rows[0][0] else "record"

    # What is on the disk

    def _look_at_event(self, event: int, post: Post) -> None:
        rows = self.rows("SELECT body FROM event WHERE id = ?", event)
        retention = RETENTION.of(self.settings)
        if not rows:
            self._may_be_gone(post, event, retention.record_ms, "record")
        elif rows[0][0] is None:
            if post.person.erased_s is None:
                period = min(filter(None, (retention.body_ms, retention.identity_ms)), default=None)
                self._may_be_gone(post, event, period, "body")
        else:
            self.require(rows[0][0] == post.body, "a body is stored as it came", e(event))

    def _may_be_gone(self, post: Post, event: int, period_ms: int | None, what: str) -> None:
        """What is retained is not removed early: by a clock that was set, at most twice as fast."""
        self.require(period_ms is not None, f"acknowledged is stored: the {what} is gone", e(event))
        if post.at_a_jump:
            return
        # What was stored and could not be acknowledged is a duplicate then.
        age_s = self.time.now_s - (post.first_sent_s if post.events[0][1] else post.received_s)
        speed = 2 if self.clock_was_set else 1
        self.require(
            age_s * speed >= (period_ms or 0) / 1000 - 2 - (300 if self.clock_was_set else 0),
            f"nothing is removed early: the {what} after {age_s:.0f} s",
            e(event),
        )
        held = self._held.get(event, "")
        self.require(what not in held, f"what is on hold is not removed: the {what}", e(event))

    def look(self) -> None:
        """Look whether all that was acknowledged is there, and what ended has ended rightly."""
        for event, post in self._by_event.items():
            self._look_at_event(event, post)
        twice = self.rows(
            "SELECT min(id) FROM event WHERE body IS NOT NULL GROUP BY body HAVING count(*) > 1"
        )
        self.require(not twice, "one body is stored once", *map(e, itertools.chain(*twice)))
        forged = [post.body for post in self.posts if not post.signed]
        for body in forged:
            self.require(
                not self.rows("SELECT 1 FROM event WHERE body = ?", body),
                "nothing is stored without a right signature",
            )
        successes = self.successes
        for delivery, state in self.rows(
            "SELECT id, state FROM delivery WHERE state = 'succeeded'"
        ):
            self.require(delivery in successes, f"{state} only if its hook has", d(delivery))
        for delivery, number in self.rows(
            "SELECT delivery_id, number FROM attempt WHERE outcome = 'succeeded'"
        ):
            ok = any(
                each.succeeded_s is not None
                for each in self.runs
                if (each.delivery, each.attempt) == (delivery, number)
            )
            self.require(ok, "an attempt that succeeded is a run that did", d(delivery))
        self._crashed_were_dead()
        self._dead_had_their_chances()

    def _crashed_were_dead(self) -> None:
        alive = self.rows(
            "SELECT delivery_id FROM attempt JOIN host ON host.worker = attempt.worker"
            " WHERE error = ? AND ended_at_ms IS NULL",
            CRASHED,
        )
        self.require(
            not alive, "none counts as crashed whose daemon lives", *(d(*row) for row in alive)
        )

    def _dead_had_their_chances(self) -> None:
        """A delivery is dead only when its attempts are spent, trying again can't help, or Prembly
        does not confirm it; and skipped only when another has succeeded in its place."""
        rows = self.rows(
            "SELECT delivery.id, action, event_id, max(confirmation.at_ms), last_error,"
            " count(*) FILTER (WHERE outcome IN ('failed', 'timed_out') OR coalesce(error, ?) = ?),"
            " max(coalesce(exit_code, 0)) FROM delivery LEFT JOIN attempt"
            " ON attempt.delivery_id = delivery.id LEFT JOIN confirmation"
            " ON confirmation.delivery_id = delivery.id WHERE state = 'dead' GROUP BY delivery.id",
            CRASHED,  # of one that was erased nothing is told
            CRASHED,
        )
        for delivery, name, event, confirmed, error, spent, exit_code in rows:
            action = self.actions[name]
            if delivery in self.replayed or exit_code == FINAL_EXIT:
                continue
            if CONFIRM.of(action) is not None and confirmed is None:
                if "confirm" not in self.turned_off:
                    self._was_doubted(delivery, event, error)
                continue
            self.require(
                spent >= action.retry.attempts,
                f"dead only when its attempts are spent: {spent}, {error}",
                d(delivery),
                e(event),
            )
        ran = {run.delivery for run in self.runs} | self.replayed.keys() | self.cancelled
        # Nobody knows whether these have begun.
        crashed = "last_error = ? OR (state = 'dead' AND last_error IS NULL)"  # it was removed
        ran |= {each for (each,) in self.rows(f"SELECT id FROM delivery WHERE {crashed}", CRASHED)}
        for delivery, other, by_answer, alike, state in self.rows(
            "SELECT own.id, other.id, event.verified_by = 'prembly-api',"
            " event.outcome = its.outcome AND other.action = own.action, other.state"
            " FROM delivery own JOIN delivery other ON other.id = own.ran_instead_id"
            " JOIN event its ON its.id = other.event_id JOIN event ON event.id = own.event_id"
            " WHERE own.state = 'skipped'"
        ):
            has_run = other in (ran if by_answer else self.successes | self.replayed.keys())
            ok = has_run or (by_answer and state in ("pending", "running"))
            self.require(
                ok and (alike or by_answer), "skipped only for one that ran", d(delivery), d(other)
            )

        nobody = "SELECT id FROM delivery WHERE state = 'skipped' AND ran_instead_id IS NULL"
        for (delivery,) in self.rows(nobody) if not RETENTION.of(self.settings).record_ms else ():
            self.require(False, "a skipped one says for whom", d(delivery))

    @property
    def successes(self) -> set[int]:
        return {run.delivery for run in self.runs if run.succeeded_s is not None}

    def _was_doubted(self, delivery: int, event: int, error: str) -> None:
        post = self._by_event.get(event)
        if post is None or post.person.erased_s is not None:
            return
        answers = [
            each
            for each in self.given
            if each.reference == post.person.reference and each.at_s >= post.first_sent_s
        ]
        # One of the two that is open says nothing of the other.
        against = any(
            (each.word == "PENDING") == (post.word == "PENDING")
            and (each.word, each.user_ref) != (post.word, post.user_ref)
            for each in answers
            if each.word is not None
        )
        long_s = answers[-1].at_s - answers[0].at_s if answers else 0
        is_long = len(answers) >= DOUBTS and long_s >= DOUBT_S - 1
        self.require(against or is_long, f"doubted only for long: {error}", d(delivery), e(event))

    def nothing_is_held_up(self) -> None:
        """What waits goes on when its time has come, by true time, whatever is done to clocks: a
        retry after `max_delay` at most, a question after half an hour."""
        seen, self._waiting = self._waiting, {}
        now_s = self.time.now_s
        for delivery, name, number, is_doubtful in self.rows(
            "SELECT id, action, attempt_count,"
            " id NOT IN (SELECT delivery_id FROM confirmation) FROM delivery"
            " WHERE state = 'pending' AND held_by IS NULL"
        ):
            action = self.actions[name]
            since_s = self._waiting[delivery, number] = seen.get((delivery, number), now_s)
            asks = is_doubtful and CONFIRM.of(action) is not None
            if name in self.paused or (asks and not self.can_ask) or self.lost_jump:
                continue
            delay_s = action.retry.max_delay_ms / 1000
            if asks:  # without `confirm`, for a while, a retry waited for its delay
                delay_s = max(MOST_S, delay_s if "confirm" in self.turned_off else 0)
            due_s = since_s + delay_s
            late_s = now_s - max(due_s, self.calm_since_s)
            self.require(
                late_s < SLACK_S, f"what waits goes on in time: {late_s:.0f} s late", d(delivery)
            )

    def attempts_add_up(self) -> None:
        """Every run has its row, no delivery more failures than attempts, and none is left open."""
        rows = self.rows(
            "SELECT delivery.id, delivery.action, state, attempt_count, count(attempt.id),"
            " count(*) FILTER (WHERE outcome IN ('failed', 'timed_out')),"
            " count(*) FILTER (WHERE attempt.id IS NOT NULL AND outcome IS NULL)"
            " FROM delivery LEFT JOIN attempt ON delivery_id = delivery.id GROUP BY delivery.id"
        )
        runs = Counter(run.delivery for run in self.runs)
        for delivery, name, state, said, count, failed, left_open in rows:
            self.require(said == count, "each attempt has its row", d(delivery))
            self.require(runs[delivery] <= count, "each run has its row", d(delivery))
            self.require(
                state == "running" or not left_open, "no attempt is left open", d(delivery)
            )
            if delivery not in self.replayed:
                most = self.actions[name].retry.attempts
                self.require(failed <= most + 1, "no more failures than attempts", d(delivery))

    # At the end, after a quiet time

    def unfinished(self) -> list[tuple[Any, ...]]:
        """Return the deliveries that have not ended, but those that stand behind a dead one."""
        if self.off == "order":
            return self.rows(
                "SELECT id, event_id, state, action, last_error FROM delivery"
                " WHERE state IN ('pending', 'running')"
            )
        return self.rows(
            "WITH RECURSIVE held(id) AS (SELECT delivery_id FROM order_log WHERE state = 'dead'"
            " UNION SELECT delivery_id FROM ordered JOIN held"
            " ON waits_for_id = held.id) SELECT id, event_id, state, action, last_error"
            " FROM delivery WHERE state IN ('pending', 'running')"
            " AND id NOT IN (SELECT id FROM held)"
        )

    def awaited(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT id, event_id, reference FROM awaited WHERE state = 'waiting'")

    def at_the_end(self, quiet_s: float) -> None:
        """All has ended, what has expired is gone, and who was erased is nowhere."""
        self.look()
        self.attempts_add_up()
        self._once_succeeded_once()
        self._expired_is_gone(quiet_s)
        self._erased_is_nowhere()

    def _once_succeeded_once(self) -> None:
        names: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for delivery, name, reference, outcome in self.rows(
            "SELECT delivery.id, action, reference, outcome FROM delivery"
            " JOIN event ON event.id = event_id"
            " WHERE state = 'succeeded' AND reference IS NOT NULL"
        ):
            is_once = ONCE.of(self.actions[name]) is not None and "once" not in self.turned_off
            if is_once and delivery not in self.replayed:
                names[name, plain_id(reference), outcome].append(delivery)
        for found in names.values():
            self.require(len(found) == 1, "with once, one success", *map(d, found))

    def _expired_is_gone(self, quiet_s: float) -> None:
        """What has expired is removed, unless it waits, or is on hold."""
        retention = RETENTION.of(self.settings)
        if self.off == "retention":
            return
        periods = [each for each in (retention.body_ms, retention.identity_ms) if each is not None]
        if not periods or quiet_s < SLACK_S:
            return
        waits = {event for (event,) in self.rows(
            "SELECT event_id FROM delivery WHERE state IN ('pending', 'running')"
            " UNION SELECT event_id FROM order_log"
            " UNION SELECT event_id FROM awaited WHERE state = 'waiting'"
        )}  # fmt: skip
        for event, post in self._by_event.items():
            age_s = self.time.now_s - (post.first_ack_s or 0)
            late_s = age_s - min(periods) / 1000 - 2 * self.down_s - SLACK_S
            if late_s < 0 or self.clock_was_set or post.person.held or event in waits:
                continue
            rows = self.rows("SELECT body FROM event WHERE id = ?", event)
            self.require(not rows or rows[0][0] is None, "what has expired is removed", e(event))

    def _erased_is_nowhere(self) -> None:
        """Who was erased is in no column of any table."""
        people = [each for each in self.people if each.erased_s is not None]
        if not people:
            return
        dump = "\n".join(self._everything())
        for person in people:
            for name in (person.name, person.user_ref, person.reference):
                self.require(name not in dump, "who was erased is nowhere", person.reference)

    def _everything(self) -> Iterator[str]:
        for (table,) in self.rows("SELECT name FROM sqlite_schema WHERE type = 'table'"):
            for row in self.rows(f'SELECT * FROM "{table}"'):
                for value in row:
                    if isinstance(value, bytes):
                        yield value.decode("utf-8", "replace")
                    elif isinstance(value, str):
                        yield value

    def pending_was_settled(self, quiet_since_s: float) -> None:
        """Prembly's result of what was pending is on record, if it came while it was asked."""
        pending = PENDING.of(self.settings)
        for post in self.posts:
            if pending is None or "pending" in self.turned_off:
                return
            if post.word != "PENDING" or post.first_ack_s is None or post.person.erased_s:
                continue
            asked_until_s = post.first_ack_s + pending.give_up_ms / 1000
            is_final = post.person.word(quiet_since_s) in FINAL
            if not is_final or asked_until_s < quiet_since_s + 900 or post.person.lied_about:
                continue
            found = self.rows(
                "SELECT 1 FROM event WHERE coalesce(reference_key, reference) = ?"
                " AND outcome IN ('verified', 'not_verified')",
                post.person.reference,
            )
            retention = RETENTION.of(self.settings)
            if retention.identity_ms is None and retention.record_ms is None:
                self.require(found, "what was pending is settled", post.person.reference, post.name)
