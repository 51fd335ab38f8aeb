"""The states of deliveries, attempts and what is awaited: their words, what moves a delivery from
one to another, and which rows can't be, as their columns contradict their state.

Triggers refuse to write those, whoever writes. What somebody wrote before there were triggers, or
past them, ends dead: `BROKEN` says of a row that is read what is wrong with it. After a change of
the rules, a new migration calls `install`.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from peewee import OP, ColumnBase, Context, Database

from premblyd.model.columns import ColumnType, columns
from premblyd.model.history import is_sqlite
from premblyd.model.table import Table
from premblyd.model.tables import Attempt, Delivery


class State(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"  # waits for due_at_ms
    RUNNING = "running"  # its hook runs; due_at_ms is the end of the lease
    SUCCEEDED = "succeeded"
    DEAD = "dead"  # attempts spent, or it can never work; replay puts it back
    CANCELLED = "cancelled"  # an operator stopped it
    SKIPPED = "skipped"  # `once`: another delivery of the same reference and outcome succeeded


class Step(NamedTuple):
    """What may happen to a delivery: who does it, in which states, and in which one it is then."""

    what: str
    who: str
    states: tuple[State, ...]
    then: State


_DAEMON, _OPERATOR = "a daemon", "an operator"
_OPEN = (State.PENDING, State.RUNNING)
FINISHED = (State.SUCCEEDED, State.DEAD, State.CANCELLED, State.SKIPPED)
REPLAY = Step("it is replayed", _OPERATOR, FINISHED, State.PENDING)
TRY_NOW = Step("it is made due now", _OPERATOR, (State.PENDING,), State.PENDING)
CANCEL = Step("it is cancelled", _OPERATOR, (State.PENDING, State.DEAD), State.CANCELLED)
# All that there are: no statement makes another. What is queued begins as pending.
STEPS = (
    Step("its hook starts", _DAEMON, (State.PENDING,), State.RUNNING),
    Step("its hook succeeds", _DAEMON, (State.RUNNING,), State.SUCCEEDED),
    Step("its hook is to run again", _DAEMON, (State.RUNNING,), State.PENDING),
    Step("its hook can't run, or not again", _DAEMON, _OPEN, State.DEAD),
    Step("another has succeeded in its place", _DAEMON, _OPEN, State.SKIPPED),  # `once`
    Step(
        "Prembly has the result by now, or still has none",
        _DAEMON,
        (State.RUNNING,),
        State.CANCELLED,
    ),  # `confirm`
    Step("its person was erased", _DAEMON, (*_OPEN, State.DEAD), State.CANCELLED),
    REPLAY,
    TRY_NOW,
    CANCEL,
)
STOPPED, LOST = "stopped", "lost"  # how a daemon ended, in its row of `host`


class AttemptOutcome(StrEnum):
    """How one run of a hook ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"  # the daemon stopped or crashed meanwhile


class AwaitedState(StrEnum):
    """Where an awaited verification stands."""

    WAITING = "waiting"  # Prembly is asked at due_at_ms
    SETTLED = "settled"
    GIVEN_UP = "given_up"
    ERASED = "erased"  # its person's data were erased: nothing is asked of it any more


class Rule(NamedTuple):
    """A condition that no row fulfils, in the SQL of both engines, and what is said of one that
    does."""

    broken: str
    words: str


def _is_none_of(column: str, words: Any) -> str:
    # For NOT IN with more than two words SQLite makes a table, for each row: a claim and its end
    # took a third longer.
    return " AND ".join(f"{column} <> '{word}'" for word in words)


DELIVERY_RULES = (
    Rule(_is_none_of("state", State), "its state is none that premblyd knows"),
    Rule(
        "(finished_at_ms IS NULL) <> (state IN ('pending', 'running'))",
        "finished_at_ms is for what is over, and only for that",
    ),
    Rule(
        "(due_at_ms IS NULL) = (state = 'running' OR (state = 'pending' AND waits_for_id IS NULL))",
        "due_at_ms is for what runs, or is pending and waits for no other",
    ),
    Rule(
        "waits_for_id IS NOT NULL AND (state <> 'pending' OR order_key IS NULL)",
        "waits_for_id is for what is pending and has an order_key",
    ),
    Rule(
        "(order_key IS NULL) <> (order_place IS NULL) OR order_place < 1"
        " OR (holds_order AND order_key IS NULL)",
        "order_key, order_place and holds_order contradict each other",
    ),
    Rule(
        "attempt_count NOT BETWEEN 0 AND 2147483647 OR attempts_left NOT BETWEEN 0 AND 2147483647",
        "attempt_count or attempts_left is no number that it can be",
    ),
)
# Not refused: an older daemon beside this one writes it, for as long as its transaction takes.
SPENT = Rule("state = 'pending' AND attempts_left = 0", "what is pending has an attempt left")
ATTEMPT_RULES = (
    Rule(_is_none_of("outcome", AttemptOutcome), "its outcome is none that premblyd knows"),
    Rule(
        "(outcome IS NULL) <> (finished_at_ms IS NULL)",
        "outcome and finished_at_ms are set together",
    ),
)
UNOPENED = Rule(
    "NEW.state = 'running' AND OLD.state <> 'running' AND NOT EXISTS (SELECT 1 FROM attempt"
    " WHERE delivery_id = NEW.id AND number = NEW.attempt_count AND outcome IS NULL)",
    "what runs has an open attempt, with attempt_count as its number",
)
# What changes none of these is not looked at.
_OF_DELIVERY = (
    "state", "due_at_ms", "finished_at_ms", "attempt_count", "attempts_left", "order_key",
    "order_place", "waits_for_id", "holds_order",
)  # fmt: skip
_OF_ATTEMPT = ("finished_at_ms", "outcome")
_TABLES = ((Delivery, DELIVERY_RULES, _OF_DELIVERY), (Attempt, ATTEMPT_RULES, _OF_ATTEMPT))
_STORED_AS = {
    ColumnType.NUMBER: "integer",
    ColumnType.MOMENT: "integer",
    ColumnType.TRUTH: "integer",
    ColumnType.TEXT: "text",
}


def _types(table: type[Table], names: tuple[str, ...]) -> Rule:
    """Return the rule that a column has its type: SQLite itself takes any."""
    fields = {column.column_name: column for column in columns(table)}
    return Rule(
        " OR ".join(
            f"typeof({name}) <> '{_STORED_AS[fields[name].kind]}'"
            + (f" AND {name} IS NOT NULL" if fields[name].null else "")
            for name in names
        ),
        "a column of it has not its type",
    )


class _Broken(ColumnBase):
    """What is wrong with a delivery that is read; NULL: nothing."""

    def __sql__(self, ctx: Context) -> Any:
        is_sqlite_ = ctx.state.operations[OP.LIKE] == "GLOB"
        rules: tuple[Rule, ...] = (*DELIVERY_RULES, SPENT)
        if is_sqlite_:
            rules = (_types(Delivery, _OF_DELIVERY), *rules)
        cases = " ".join(f"WHEN {rule.broken} THEN '{_quoted(rule.words)}'" for rule in rules)
        return ctx.literal(f"(CASE {cases} END)")


BROKEN = _Broken()
IS_BROKEN = BROKEN.is_null(False)


def install(database: Database) -> None:
    """Have the database refuse what can't be."""
    for table, rules, names in _TABLES:
        make = _sqlite if is_sqlite(database) else _postgresql
        for sql in make(table, rules, names):
            database.execute_sql(sql)


def _sqlite(table: type[Table], rules: tuple[Rule, ...], names: tuple[str, ...]) -> Iterator[str]:
    name = table._meta.table_name
    new = [_of_new(rule, names) for rule in (_types(table, names), *rules)]
    for event in ("INSERT", "UPDATE"):
        more = [UNOPENED] if (table, event) == (Delivery, "UPDATE") else []
        cases = "\n    ".join(
            f"WHEN {rule.broken}\n    THEN RAISE(ABORT, '{name}: {_quoted(rule.words)}')"
            for rule in new + more
        )
        of = f" OF {', '.join(names)}" if event == "UPDATE" else ""
        trigger = f"{name}_refused_{event.lower()}"
        yield f"DROP TRIGGER IF EXISTS {trigger}"
        yield (
            f"CREATE TRIGGER {trigger} BEFORE {event}{of} ON {name}\nBEGIN\n"
            f"    SELECT CASE\n    {cases}\n    END;\nEND"
        )


def _postgresql(
    table: type[Table], rules: tuple[Rule, ...], names: tuple[str, ...]
) -> Iterator[str]:
    name = table._meta.table_name
    new = [_of_new(rule, names) for rule in rules]
    cases = " ".join(f"WHEN {rule.broken} THEN '{_quoted(rule.words)}'" for rule in new)
    yield f"""
        CREATE OR REPLACE FUNCTION refuse_{name}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = '{name}_refused',
                MESSAGE = '{name}: ' || CASE {cases} END;
        END $$
    """
    yield f"""
        CREATE OR REPLACE TRIGGER {name}_refused
        BEFORE INSERT OR UPDATE OF {", ".join(names)} ON {name}
        FOR EACH ROW WHEN ({" OR ".join(f"({rule.broken})" for rule in new)})
        EXECUTE FUNCTION refuse_{name}()
    """
    if table is Delivery:  # a WHEN has no subquery
        yield f"""
            CREATE OR REPLACE FUNCTION refuse_unopened() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF {UNOPENED.broken} THEN
                    RAISE EXCEPTION USING ERRCODE = 'check_violation',
                        CONSTRAINT = '{name}_refused',
                        MESSAGE = '{name}: {_quoted(UNOPENED.words)}';
                END IF;
                RETURN NEW;
            END $$
        """
        yield """
            CREATE OR REPLACE TRIGGER delivery_refused_unopened BEFORE UPDATE OF state ON delivery
            FOR EACH ROW WHEN (NEW.state = 'running' AND OLD.state <> 'running')
            EXECUTE FUNCTION refuse_unopened()
        """


def _of_new(rule: Rule, names: tuple[str, ...]) -> Rule:
    """Return a rule about the row that is written."""
    return rule._replace(broken=re.sub(rf"\b({'|'.join(names)})\b", r"NEW.\1", rule.broken))


def _quoted(words: str) -> str:
    return words.replace("'", "''")
