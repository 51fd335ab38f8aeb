"""Processes that freeze within a transaction on PostgreSQL, each at another step of it.

`python -m tests.support.freezing URL ENDING` forks them until one gets to the end. It prints how
many are frozen, and ends them when its standard input does. ENDING: what the transaction does last.
"""

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import pq

from premblyd.features.postgresql import opening
from premblyd.features.postgresql.engine import PostgresqlEngine
from premblyd.features.postgresql.settings import Server
from premblyd.store.engine import Transaction

# Of libpq, which can be seen only in psycopg's form that is pure Python.
CALLS = [
    *("send_query", "send_query_params", "send_query_prepared", "send_prepare"),
    *("pipeline_sync", "send_flush_request", "flush"),
]
LONG = "x" * 20_000  # more than libpq sends in one write
LENGTH = "SELECT length(%s)"
PIECES = [
    [(LENGTH, "a"), (LENGTH, "b")],
    [(LENGTH, LONG), (LENGTH, "c")],
    [(LENGTH, LONG[:3900]), (f"{LENGTH} -- {LONG[:4500]}", LONG)],
]


class _Steps:
    """Counts what this process does in the transaction, and freezes it after the last step."""

    def __init__(self, count: int) -> None:
        self.left: int | None = None
        self.count = count

    def begin(self) -> None:
        self.left = self.count

    def after(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def stepping(*arguments: Any, **options: Any) -> Any:
            done = function(*arguments, **options)
            if self.left is not None:
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), signal.SIGSTOP)
            return done

        return stepping


def run(url: str, ending: str, count: int) -> None:
    """Run a transaction of several pieces, and freeze after so many steps."""
    opening.SESSION["idle_in_transaction_session_timeout"] = "2s"
    steps = _Steps(count)
    psycopg.Cursor.execute = steps.after(psycopg.Cursor.execute)  # type: ignore[method-assign]
    if pq.__impl__ == "python":
        for name in CALLS:
            setattr(pq.PGconn, name, steps.after(getattr(pq.PGconn, name)))

    def work(transaction: Transaction) -> None:
        transaction.lock([f"lock {count}"])
        execute = transaction.connection.execute
        for texts in PIECES:
            asked = [execute(query, [text]) for query, text in texts]
            assert [answer.fetchone() for answer in asked] == [(len(text),) for _, text in texts]
        execute("SELECT 1")
        if ending == "fails":
            raise ZeroDivisionError

    engine = PostgresqlEngine(Server(url), 600.0)
    engine.transact(lambda _: None)  # it is connected
    steps.begin()
    try:
        engine.transact(work)
    except ZeroDivisionError:
        assert ending == "fails"


def main(url: str, ending: str) -> None:
    frozen: list[int] = []
    while True:
        pid = os.fork()
        if pid == 0:
            try:
                run(url, ending, len(frozen) + 1)
                os._exit(0)
            except BaseException:  # noqa: BLE001 (or it would fork too)
                traceback.print_exc()
                os._exit(1)
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        frozen.append(pid)
    print("failed" if status else len(frozen), flush=True)
    sys.stdin.read()
    for pid in frozen:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
