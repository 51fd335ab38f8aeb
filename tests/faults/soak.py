"""A long life under load, and whether it is at its end as it was when it was young.

    python -m tests.faults.soak --minutes 60 --everything [--rate 30] [--seed N]

Clients send webhooks for actions of every kind. With --everything, meanwhile: the daemon is killed
(-9) in the first eighth of the time, and hooks at any time; the file is loaded again, changed and
as it was; deliveries are replayed; time goes by, and `retention` removes what is old; people are
erased; `status` and `check` look; a dashboard has the console and the metrics. After the first
eighth one daemon lives to the end, so that what leaks is seen; then it is killed once more, and all
that is left must end.

Prints memory, descriptors, threads, processes, WAL and times of answers, as they were in the second
and in the last sixth of the time: of an hour, in its minutes 10 to 20 and 50 to 60. Ends with 1 if
any of them grew, or a promise is broken: a webhook lost, a hook run again after its success was on
record, a delivery that never ends.
"""

import argparse
import json
import random
import signal
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil

from premblyd.ground.times import HOUR_MS
from tests.faults import campaigns, crash, series
from tests.faults.daemon import Victim, folder, table
from tests.faults.dashboard import Dashboard
from tests.faults.keeping import EAGER, RETENTION
from tests.faults.promises import Run, runs_in
from tests.faults.series import Sample
from tests.faults.worker import worker
from tests.support.commands import Ran, run_process
from tests.support.configuration import shell
from tests.support.console import CONSOLE
from tests.support.database import changing
from tests.support.processes import VISIBLE

CLIENTS = 4
STEPS = 240  # in each of which something is done
KILLS = (1 / 48, 1 / 24, 1 / 16, 1 / 12, 1 / 8)  # of the daemon, and when: see series.EARLY
MAX_WAITING = 2000  # clients pause there, so that what is measured is not a queue
YOUNG = 1 / 6  # of all events that are expected: so many of the newest stay as they are
# So many attempts that no delivery dies: hooks are killed.
RETRY = {"attempts": 100, "first_delay": "20ms", "factor": 1.5, "max_delay": "1s"}
SCRIPT = """
cat > /dev/null; echo "{action} $PREMBLY_DELIVERY $PREMBLY_ATTEMPT" >> {runs}
test $(( (PREMBLY_DELIVERY + PREMBLY_ATTEMPT) % 9 )) -ne 0
"""
WAITING = "SELECT count(*) FROM delivery WHERE due_at_ms IS NOT NULL"
STORED = "SELECT id, body, removed_parts FROM event WHERE id > ? ORDER BY id"
OLD = """
SELECT id FROM event WHERE id <= ? AND NOT EXISTS (SELECT 1 FROM delivery
WHERE event_id = event.id AND state IN ('pending', 'running')) ORDER BY id LIMIT ?
"""
FINISHED = "SELECT id FROM delivery WHERE state = 'succeeded' ORDER BY id DESC LIMIT 500"
SUCCESSES = """
SELECT action, delivery_id, number FROM attempt JOIN delivery ON delivery.id = delivery_id
WHERE attempt.outcome = 'succeeded' AND action <> 'post' ORDER BY delivery_id
"""
DEAD = "SELECT count(*) FROM delivery WHERE state = 'dead'"
REMOVED = "SELECT count(*) FROM gone_event"


class Client(crash.Client):
    """Sends webhooks of people, a few of each verification, and notes how long answers take."""

    def __init__(self, soak: "Soak", number: int) -> None:
        rng, each_s = random.Random(soak.rng.random()), CLIENTS / soak.rate
        super().__init__(soak.victim, soak.book, number, rng, (each_s * 0.5, each_s * 1.5))
        self._soak = soak

    def _body(self, token: str) -> bytes:
        return body_of(token)

    def _send(self, token: str) -> bool:
        self._soak.going.wait()
        start = time.monotonic()
        is_stored = super()._send(token)
        if is_stored:
            self._soak.times_ms.append((time.monotonic() - start) * 1000)
        return is_stored


def person_of(token: str) -> str:
    client, _, number = token.partition("-")
    return f"person-{client}-{int(number) // 40}"


def body_of(token: str) -> bytes:
    """Return the one body that is sent with `token`: four are of one verification."""
    client, _, number = token.partition("-")
    random_ = zlib.crc32(token.encode())
    return json.dumps(
        {
            "response_code": f"0{random_ % 4}",
            "token": token,
            "verification": {"status": "VERIFIED", "reference": f"r-{client}-{int(number) // 4}"},
            "widget_info": {"user_ref": person_of(token)},
            "fill": "x" * (200 + random_ % 2000),
        }
    ).encode()


class Daemon(Victim):
    """One that removes what is old all the time, and may be looked at."""

    before = VISIBLE + EAGER
    is_executed = True  # its memory is to be its own


class Soak:
    """Load, harm and looks, for a while."""

    def __init__(self, at: Path, seed: int, *, minutes: float, rate: float) -> None:
        self.rng = random.Random(seed)
        self.whole_s = minutes * 60
        self.rate = rate
        self.book = crash.Book()
        self.times_ms: list[float] = []
        self.going = threading.Event()
        self.samples: list[Sample] = []
        self.kills_s: list[float] = []
        self.figures: Counter[str] = Counter()
        self._at, self._runs = at, at / "runs"
        self._runs.touch()
        self._receiver = crash.Receiver()
        self._replayed: Counter[int] = Counter()
        self._erased: set[str] = set()
        self._checked = 0  # the event up to which all that were acknowledged were found
        self.victim = Daemon(at, **self._settings(0))
        self._began_s = 0.0
        self._harms: Iterator[Callable[[], object]] = cycle(
            [
                self._reload,
                self._replay,
                partial(self._run, "status", "--json", codes=(0, 1, 2)),
                self._let_time_go_by,
                self._erase,
                partial(self._run, "check", codes=(0, 1)),
            ]
        )

    def _settings(self, generation: int) -> dict[str, Any]:
        def script(action: str) -> str:
            return SCRIPT.format(action=action, runs=self._runs)

        url = f"http://127.0.0.1:{self._receiver.server_port}/"
        more: dict[str, Any] = {"retry": RETRY, "env": {"GENERATION": str(generation)}}
        return {
            "console": CONSOLE,
            "retention": RETENTION,
            "actions": [
                shell("count", script("count"), "00", concurrency=4, **more),
                shell("line", script("line"), "01", order="reference", **more),
                shell("once", script("once"), "02", once="reference", **more),
                {"name": "post", "response_codes": ["03"], "http": {"url": url}, "retry": RETRY},
                worker("work", script("work"), concurrency=4, **more),
            ],
        }

    def run(self, *, with_everything: bool, say_every: int = 0) -> list[str]:
        """Run it, and print each so many samples; return which promises were broken."""
        threading.Thread(target=self._receiver.serve_forever, daemon=True).start()
        dashboard = Dashboard(self.victim)
        with ExitStack() as opened:
            opened.callback(self._receiver.server_close)
            opened.callback(self._receiver.shutdown)
            opened.enter_context(self.victim).restart()
            self.going.set()
            self._began_s = time.monotonic()
            with campaigns.sending([Client(self, number) for number in range(CLIENTS)]):
                if with_everything:
                    dashboard.start()
                for _ in self._steps():
                    if with_everything:
                        self._harm()
                    self._sample()
                    if say_every and len(self.samples) % say_every == 1:
                        print(series.line(self.samples[-1]), flush=True)
            dashboard.stop()
            if with_everything:
                self._kill()
            self.victim.finish()
            self._check()
            self._check_end()
            self.book.problems += self.victim.end() + dashboard.problems
        self.figures.update(dashboard.seen)
        return self.book.problems

    def _steps(self) -> Iterator[None]:
        """Yield at even steps until the time is over."""
        every_s = self.whole_s / STEPS
        while (passed_s := self._passed_s()) < self.whole_s:
            yield
            time.sleep(max(0.0, passed_s + every_s - self._passed_s()))

    def _passed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _sample(self) -> None:
        waiting = self.victim.rows(WAITING)[0][0]
        (self.going.clear if waiting > MAX_WAITING else self.going.set)()
        times_ms, self.times_ms = self.times_ms, []
        p50_ms, p99_ms = series.quantiles_ms(times_ms)
        wal = self.victim.database.with_name(self.victim.database.name + "-wal")
        self.samples.append(
            Sample(
                seconds=self._passed_s(),
                events=len(self.book.events),
                wal_mib=series.size_mib(wal),
                p50_ms=p50_ms,
                p99_ms=p99_ms,
                waiting=waiting,
                **series.of_process(self.victim.process.pid),
            )
        )

    # --- Harm -----------------------------------------------------------------------------

    def _harm(self) -> None:
        """Do what is next, and kill a hook; and the daemon when it is time for that."""
        next(self._harms)()
        self._kill_hook()
        due = sum(self._passed_s() >= share * self.whole_s for share in KILLS)
        if due > len(self.kills_s):
            self._kill()

    def _kill(self) -> None:
        self.kills_s.append(self._passed_s())
        self.victim.end_now()
        self.victim.restart()
        self.figures["kills of the daemon"] += 1
        self._check()

    def _kill_hook(self) -> None:
        if hooks := self.victim.hooks():
            try:
                self.rng.choice(hooks).kill()
            except psutil.NoSuchProcess:
                return
            self.figures["kills of hooks"] += 1

    def _reload(self) -> None:
        """Have the file read again, every other time with other actions."""
        self.figures["reloads"] += 1
        self.victim.configure(
            listen=self.victim.address, **self._settings(self.figures["reloads"] // 2)
        )
        self.victim.process.send_signal(signal.SIGHUP)

    def _replay(self) -> None:
        finished = [delivery for (delivery,) in self.victim.rows(FINISHED)]
        for delivery in self.rng.sample(finished, min(3, len(finished))):
            self._replayed[delivery] += 1  # also if it is refused by then
            self._run("replay", "--delivery", delivery, codes=(0, 1))

    def _let_time_go_by(self) -> None:
        """Let what was found and has ended grow old, all but the newest: one by one, so that each
        class is removed from some."""
        self._check()
        newest = round(self.rate * self.whole_s * YOUNG)
        found = [event for (event,) in self.victim.rows(OLD, self._checked - newest, 5000)]
        with changing(self.victim.place) as database:
            database.execute("PRAGMA secure_delete = on")  # as premblyd does, whatever it changes
            for event in found:
                hours = self.rng.choice([1.2, 1.2, 1.2, 4.5])
                aged = "UPDATE event SET received_at_ms = received_at_ms - ? WHERE id = ?"
                database.execute(aged, (int(hours * HOUR_MS), event))
            database.execute("DELETE FROM sweep")
        self.figures["events that grew older"] += len(found)

    def _erase(self) -> None:
        with self.book.lock:
            tokens = list(self.book.events)[-2000:]
        if tokens:
            person = person_of(self.rng.choice(tokens))
            self._erased.add(person)
            # 75: the files hold something of it yet, which the daemon finishes.
            self._run("person", "erase", "--user-ref", person, "--yes", codes=(0, 1, 75))

    def _run(self, *words: object, codes: tuple[int, ...] = (0,)) -> Ran:
        done = run_process(*words, "--config", self.victim.config)
        self.figures[f"{words[0]} ended with {done.code}"] += 1
        if done.code not in codes:
            self.book.problems.append(f"{words[0]} ended with {done.code}: {done.err[-500:]}")
        return done

    # --- Promises -------------------------------------------------------------------------

    def _check(self) -> None:
        """Each 200 since the last check has its event, which was not old enough to be removed, and
        no hook succeeded again that was not replayed."""
        with self.book.lock:
            promised = [one for one in self.book.events.items() if one[1] > self._checked]
        stored = {
            id_: (body, removed_parts)
            for id_, body, removed_parts in self._rows(STORED, self._checked)
        }
        for token, event in promised:
            body, removed_parts = stored.get(event, (b"", "record"))
            is_erased = removed_parts == "erased" and person_of(token) in self._erased
            if body != body_of(token) and not is_erased:
                self.book.problems.append(
                    f"event {event} ({token}) lost its {removed_parts or 'body'}"
                )
        self._checked = max([self._checked, *(event for _, event in promised)])
        succeeded = {Run(*run) for run in self._rows(SUCCESSES)}
        times = Counter(run.delivery for run in succeeded)
        broken = {
            "deliveries that succeeded again": sum(
                count > 1 + self._replayed[delivery] for delivery, count in times.items()
            ),
            "successes that never ran": len(succeeded - set(runs_in(self._runs))),
        }
        self.book.problems += [f"{name}: {count}" for name, count in broken.items() if count]

    def _check_end(self) -> None:
        ran = Counter(runs_in(self._runs))
        broken = {
            "attempts that ran twice": sum(count > 1 for count in ran.values()),
            "dead deliveries": self._rows(DEAD)[0][0],
            "webhooks refused": sum(
                count for status, count in self.book.answers.items() if status not in (200, 503)
            ),
        }
        self.book.problems += [f"{name}: {count}" for name, count in broken.items() if count]
        self.figures.update(
            {
                "events acknowledged": len(self.book.events),
                "answers 503": self.book.answers[503],
                "events removed": self._rows(REMOVED)[0][0],
                "people erased": len(self._erased),
                "runs of hooks": ran.total(),
                "posts": sum(self._receiver.got.values()),
            }
        )

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.victim.rows(sql, *values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=30, help="webhooks a second")
    parser.add_argument("--everything", action="store_true")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    asked = parser.parse_args()
    with folder() as at:
        soak = Soak(at, asked.seed, minutes=asked.minutes, rate=asked.rate)
        print(series.HEADING)
        problems = soak.run(with_everything=asked.everything, say_every=5)
    lines, grown = series.compare(soak.samples, soak.whole_s)
    print(f"{asked.minutes:g} minutes, seed {asked.seed}: the second sixth of them, and the last")
    print("\n".join(lines))
    table({**soak.figures, "broken promises": len(problems)})
    campaigns.end(problems + grown)


if __name__ == "__main__":
    main()
