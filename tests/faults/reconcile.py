"""What never came is found in a log that grows while it is read, and stored though it is killed.

    python -m tests.faults.reconcile --entries 10000 --missing 500 --kills 10

A daemon runs beside it, whose action notes each event that is stored.
"""

import itertools
import json
import random
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from premblyd import times
from tests.faults import campaigns
from tests.faults.daemon import Victim, folder, table
from tests.support.commands import command
from tests.support.configuration import shell
from tests.support.prembly_api import PremblyApi, prembly_api
from tests.support.reconciling import Record, every_nth, know
from tests.support.waiting import wait_until

GROWS_BY = 3  # entries between two pages
RAN_LATE = """
SELECT max(attempt.started_at_ms - event.received_at_ms) FROM event
JOIN delivery ON delivery.event_id = event.id JOIN attempt ON attempt.delivery_id = delivery.id
WHERE event.type = 'prembly.status'
"""
UNFINISHED = "SELECT count(*) FROM delivery WHERE state <> 'succeeded'"


class Campaign:
    """One log, one record and one daemon."""

    def __init__(self, at: Path, api: PremblyApi, seed: int, *, rate: float) -> None:
        self.figures: dict[str, object] = {}
        self._problems: list[str] = []
        self._at = at
        self._api = api
        self._rng = random.Random(seed)
        self._rate = rate
        self._new = itertools.count()
        self._began = times.iso(times.now_ms())

    def run(self, entries: int, missing: int, kills: int) -> list[str]:
        """Return what went wrong."""
        known = know(self._api, entries)
        lost = every_nth(known, missing)
        asking = {"url": self._api.url, "api_key": self._api.key, "rate": self._rate}
        ran = self._at / "ran"
        action = shell("note", f'echo "$PREMBLY_REFERENCE" >> {ran}', types=["prembly.status"])
        Record(self._at, self._api, actions=[action]).receive(set(known) - lost)
        with Victim(self._at, actions=[action | {"concurrency": 16}], prembly=asking) as victim:
            victim.start()
            self._api.before_log_page = self._grow
            self._list(victim, lost)
            self._kill(victim, kills, lost)
            self._finish(victim)
            self._judge(victim, lost, ran)
            self._problems += victim.complaints()
        return self._problems

    def _grow(self, _: int) -> None:
        for _ in range(GROWS_BY):
            self._api.know(f"ver_new_{next(self._new):06x}a")

    def _reconcile(self, victim: Victim, *arguments: str) -> "subprocess.Popen[bytes]":
        # What the log grows by never comes either, and is old enough after a minute.
        until = f"--until={self._began}"
        line = command("reconcile", "--config", victim.config, "--json", until, *arguments)
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def _printed(self, process: "subprocess.Popen[bytes]", code: int) -> dict[str, Any]:
        out, err = process.communicate()
        if process.returncode != code or err:
            self._problems.append(f"exit {process.returncode}, not {code}: {err.decode()}")
        printed: dict[str, Any] = json.loads(out)
        return printed

    def _list(self, victim: Victim, lost: set[str]) -> None:
        started = time.monotonic()
        printed = self._printed(self._reconcile(victim), 1)
        self.figures["seconds for the log"] = f"{time.monotonic() - started:.1f}"
        self.figures["pages of the log"] = self._api.log_pages()
        found = Counter(each["reference"] for each in printed["absent"])
        if found != Counter(lost):
            self._problems.append(f"listed {found.total()} of {len(lost)}, or others")
        if self._api.asked_by_id():
            self._problems.append("a list asked for single verifications")

    def _kill(self, victim: Victim, kills: int, lost: set[str]) -> None:
        """Kill it while it stores; what is stored is not asked for again. It gets no more answers
        than it is to store, or it might have done all before it is killed."""
        for number in range(kills):
            before = set(_stored(victim))
            goal = len(lost) * (number + 1) // (kills + 1)
            answers = threading.Semaphore(goal + 1 - len(before))

            def answer(handler: Any, answers: threading.Semaphore = answers) -> None:
                answers.acquire()
                handler.reply_bytes(handler.own_answer())

            for name in lost - before:
                self._api.fail(answer, name)
            with self._reconcile(victim, "--store") as process:
                wait_until(lambda: len(_stored(victim)) > goal or process.poll() is not None)  # noqa: B023
                time.sleep(self._rng.random() * 0.02)
                process.kill()
            answers.release(len(lost))
            self._api.mend()
            again = [name for name in before if self._api.asked(name) > 1]
            # Asked and killed before it was stored: that may be asked again.
            if len(again) > 16 * (number + 1):
                self._problems.append(f"{len(again)} that were stored were asked for again")
        self.figures["stored when killed last"] = len(_stored(victim))

    def _finish(self, victim: Victim) -> None:
        before = _stored(victim)
        asked = self._api.asked_by_id()
        started = time.monotonic()
        printed = self._printed(self._reconcile(victim, "--store"), 0)
        self.figures["seconds for the last run"] = f"{time.monotonic() - started:.1f}"
        self.figures["stored by the last run"] = printed["stored"]
        if any(self._api.asked(name) != asked[name] for name in before):
            self._problems.append("the last run asked for what was stored")
        if self._printed(self._reconcile(victim), 0)["missing"]:
            self._problems.append("something is still missing")

    def _judge(self, victim: Victim, lost: set[str], ran: Path) -> None:
        if Counter(_stored(victim)) != Counter(lost):
            self._problems.append("what is stored is not what was lost, each once")
        wait_until(lambda: victim.rows(UNFINISHED) == [(0,)])
        if Counter(ran.read_text().split()) != Counter(lost):
            self._problems.append("an action did not run once for each")
        ((late_ms,),) = victim.rows(RAN_LATE)
        self.figures["longest from stored to run, ms"] = late_ms
        self.figures["peak of questions a second"] = self._api.peak_rate()


def _stored(victim: Victim) -> list[str]:
    sql = "SELECT reference FROM event WHERE type = 'prembly.status'"
    return [reference for (reference,) in victim.rows(sql)]


def main() -> None:
    arguments = campaigns.arguments(
        __doc__, entries=10_000, missing=500, kills=10, rate=200.0, seed=campaigns.ANY
    )
    with folder() as at, prembly_api() as api:
        campaign = Campaign(at, api, arguments.seed, rate=arguments.rate)
        problems = campaign.run(arguments.entries, arguments.missing, arguments.kills)
    print(f"seed {arguments.seed}")
    table({**campaign.figures, "broken promises": len(problems)})
    campaigns.end(problems)


if __name__ == "__main__":
    main()
