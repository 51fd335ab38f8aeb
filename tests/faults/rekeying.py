"""The campaign of rekey: kill -9 in its middle, with the daemon or beside it, again and again, as
webhooks come, what came in clear is sealed, and one data key takes over from another.

    python -m tests.faults.rekeying --cycles 200 [--kills N] [--seed N] [--hosts N]

Each third of the cycles begins with a daemon that seals by another data key, and with events in
clear, as they are when `encryption` is new. Whatever is killed: an event is sealed whole or not at
all, what was acknowledged is read as it came, with what its hook printed, and hooks run. With
--hosts, so many daemons work on one PostgreSQL. With --kills it goes on, under less load, until
rekey was killed so often at its work.
"""

import json
import random
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import connect_read_only
from premblyd.model.tables import Attempt, Event
from premblyd.record import queries
from premblyd.record.queries import AttemptRow, WholeEvent
from premblyd.vault import MARK, TEXT_MARK, DataKey, Vault, generate
from premblyd.words import Sealed
from tests.faults import campaigns
from tests.faults.crash import RETRY, Book, Client, Target, body_of
from tests.faults.daemon import Victim
from tests.faults.keeping import PAUSE_S
from tests.faults.kills import Kills
from tests.support.configuration import shell
from tests.support.database import Connection, changing, reading, rows
from tests.support.forking import Forked
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

CLIENTS = 3
SLOW_S = (0.2, 0.6)  # between webhooks, in a long run: in each cycle all events are looked at
BEGIN_WITH = 60  # events in clear
ROTATE_EVERY = 3  # cycles
CLEAR = 40  # events in clear that are there again then
FINISHED = """
SELECT event_id FROM delivery WHERE state IN ('succeeded', 'dead') ORDER BY event_id LIMIT ?
"""
HALF = f"""
SELECT count(*) FROM event WHERE (id IN (SELECT id FROM event_key))
<> (substr(body, 1, {len(MARK)}) = ?) OR (id IN (SELECT id FROM event_key))
<> (substr(headers, 1, {len(TEXT_MARK)}) = ?)
"""
HALF_OUTPUT = f"""
SELECT count(*) FROM attempt JOIN delivery ON delivery.id = delivery_id
JOIN event ON event.id = event_id WHERE output <> ''
AND (event_id IN (SELECT id FROM event_key)) <> (substr(output, 1, {len(TEXT_MARK)}) = ?)
"""
STRAY = "SELECT count(*) FROM event_key WHERE id NOT IN (SELECT id FROM event)"
SCRIPT = 'cat > /dev/null; echo "printed $PREMBLY_REFERENCE"; test $((PREMBLY_DELIVERY % 7)) -ne 0'


@dataclass(frozen=True, slots=True)
class Clear:
    """An event as it was stored in clear, with its delivery and attempts: names, and values."""

    event: dict[str, Any]
    delivery: dict[str, Any]
    attempts: list[dict[str, Any]]


class Campaign:
    """Cycles of load, kills, other data keys and checks."""

    def __init__(
        self, at: Path, seed: int, *, place: DatabaseAddress | None = None, hosts: int = 1
    ) -> None:
        self.rng = random.Random(seed)
        self.at = at
        self.book = Book()
        self.figures: Counter[str] = Counter()
        self.kills = Kills(self.rng, self.figures)
        self.keys: list[str] = []
        self.clear: list[Clear] = []
        self.copied: dict[int, bytes] = {}  # the bodies of events that were put in so, by their ids
        self.victims = []
        for number in range(hosts):
            own = at / f"host-{number}"
            own.mkdir()
            more = {"hosts": {"name": f"host-{number}", "lost_after": "1s"}} if hosts > 1 else {}
            self.settings = {"actions": [shell("count", SCRIPT, retry=RETRY)], **more}
            self.victims.append(Victim(own, place=place, **self.settings))
        self.place = self.victims[0].place

    def run(self, cycles: int, *, say_every: int = 0, kills: int = 0) -> list[str]:
        """Run the campaign and return every broken promise. `kills`: until there were so many."""
        with ExitStack() as opened:
            for victim in self.victims:
                opened.enter_context(victim).restart()
            target: Target = self.victims[0]
            if len(self.victims) > 1:
                addresses = [victim.address for victim in self.victims]
                target = opened.enter_context(Proxy(addresses))
            pause_s = SLOW_S if kills else PAUSE_S
            clients = [
                Client(target, self.book, number, random.Random(self.rng.random()), pause_s)
                for number in range(CLIENTS)
            ]
            with campaigns.sending(clients):
                wait_until(lambda: len(self.book.events) > BEGIN_WITH)
                self._keep_clear()
                for cycle in campaigns.count_cycles(cycles, say_every, self._so_far):
                    if kills and self.kills.counts["rekey"] >= kills:
                        break
                    if cycle % ROTATE_EVERY == 1:
                        self._add_clear()
                        self._rotate()
                    self._harm()
                    self._check()
            self._end()
        return self.book.problems

    def _so_far(self) -> str:
        return f"{len(self.book.events)} events, {dict(self.kills.counts)} killed"

    def _keep_clear(self) -> None:
        """Remember events that are in clear now."""
        wait_until(lambda: len(rows(self.place, FINISHED, CLEAR)) == CLEAR)
        for (event_id,) in rows(self.place, FINISHED, CLEAR):
            [event] = self._named("event", "id", event_id)
            [delivery] = self._named("delivery", "event_id", event_id)
            attempts = self._named("attempt", "delivery_id", delivery["id"])
            self.clear.append(Clear(event, delivery, attempts))

    def _named(self, table_: str, column: str, number: int) -> list[dict[str, Any]]:
        with reading(self.place) as database:
            found = database.execute(f"SELECT * FROM {table_} WHERE {column} = ?", [number])
            names = [each[0] for each in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def _add_clear(self) -> None:
        """Store such events again, under other keys, as a daemon without a data key did."""
        with changing(self.place) as database:
            for clear in self.clear:
                own = {each: f"copy-{len(self.copied)}" for each in ("key", "token")}
                event_id = _insert(database, "event", {**clear.event, **own})
                delivery_id = _insert(
                    database, "delivery", {**clear.delivery, "event_id": event_id}
                )
                for attempt in clear.attempts:
                    _insert(database, "attempt", {**attempt, "delivery_id": delivery_id})
                self.copied[event_id] = bytes(clear.event["body"])
        self.figures["events in clear put in"] += len(self.clear)

    def _rotate(self) -> None:
        """Have all daemons know another data key, and then seal by it."""
        self.keys.append(generate())
        self.figures["data keys"] += 1
        for old, key in ((self.keys, None), (self.keys[:-1], self.keys[-1])):
            encryption: dict[str, Any] = {"old_keys": [{"file": self._file(each)} for each in old]}
            if key is not None:
                encryption["key"] = {"file": self._file(key)}
            elif len(self.keys) > 1:  # meanwhile the one before seals
                encryption["key"] = {"file": self._file(self.keys[-2])}
            for victim in self.victims:
                settings = json.loads(victim.config.read_text())
                victim.config.write_text(json.dumps(settings | {"encryption": encryption}))
                victim.end_now()
                victim.restart()

    def _file(self, key: str) -> str:
        path = self.at / f"key-{DataKey.read(key).id}"
        if not path.exists():
            path.touch(0o600)
            path.write_text(key)
        return str(path)

    def _harm(self) -> None:
        """Kill rekey, now and then a daemon with it; every fifth time let it end."""
        victim = self.rng.choice(self.victims)
        chance = self.rng.random()
        if chance < 0.2:
            self._ended(self._start(victim))
            return
        also = victim.process.kill if chance > 0.8 else lambda: None
        self.kills.kill("rekey", partial(self._start, victim), also)
        if chance > 0.8:
            victim.end_now()
            victim.restart()
            self.figures["kills of both"] += 1

    def _start(self, victim: Victim, **more: Any) -> Forked:
        with (self.at / "said").open("ab") as said:
            return Forked(["rekey", "--config", victim.config], stdout=said, stderr=said, **more)

    def _ended(self, process: Forked) -> None:
        code = process.wait()
        if code not in (0, 75):
            said = (self.at / "said").read_text()[-1000:]
            self.book.problems.append(f"rekey ended with {code}: {said}")
        self.figures["ended"] += 1

    def _check(self) -> None:
        """Nothing is sealed by half, and all that was acknowledged is read as it came."""
        with self.book.lock:
            promised = dict(self.book.events)
        is_half = {
            "events sealed by half": (HALF, (MARK, TEXT_MARK)),
            "outputs sealed otherwise than their events": (HALF_OUTPUT, (TEXT_MARK,)),
            "keys of no event": (STRAY, ()),
        }
        found = [
            f"{name}: {count}"
            for name, (sql, values) in is_half.items()
            for ((count,),) in [rows(self.place, sql, *values)]
            if count
        ]
        keys = [DataKey.read(each) for each in self.keys]
        with closing(connect_read_only(self.place, Vault(keys[-1], keys))) as database:
            query = Event.select(*queries.columns(Event, WholeEvent))
            bodies = {row.id: row.body for row in queries.rows(database, query, WholeEvent)}
            printed = Attempt.select(*queries.columns(Attempt, AttemptRow))
            outputs = [row.output for row in queries.rows(database, printed, AttemptRow)]
        for token, event in promised.items():
            if bodies.get(event) != body_of(token):
                found.append(f"event {event} is not as it came")
        for event, body in self.copied.items():
            if bodies.get(event) != body:
                found.append(f"event {event} is not as it was put in")
        found += [
            f"an output is {output!r}"
            for output in outputs
            if isinstance(output, Sealed) or (output and not output.startswith("printed "))
        ]
        self.book.problems += found
        if found:
            raise AssertionError("\n".join(found[:20]))

    def _end(self) -> None:
        """Let all end: then all is sealed, by the last data key."""
        victim = self.victims[0]
        victim.finish()
        self._ended(self._start(victim))
        self._check()
        found = rows(self.place, "SELECT DISTINCT data_key FROM event_key")
        if found != [(DataKey.read(self.keys[-1]).id,)]:
            self.book.problems.append(f"by other data keys still: {found}")
        left = "SELECT count(*) FROM event WHERE id NOT IN (SELECT id FROM event_key)"
        if rows(self.place, left) != [(0,)]:
            self.book.problems.append("something is in clear still")
        for each in self.victims:
            self.book.problems += each.end()
        self.figures["events acknowledged"] = len(self.book.events)


def _insert(database: Connection, table_: str, values: dict[str, Any]) -> int:
    """Insert a row under a number of its own; return that."""
    own = {name: value for name, value in values.items() if name != "id"}
    places = ", ".join("?" * len(own))
    sql = f"INSERT INTO {table_} ({', '.join(own)}) VALUES ({places}) RETURNING id"
    [number] = database.execute(sql, list(own.values())).fetchone()
    return int(number)


def main() -> None:
    campaigns.main_of_commands(
        __doc__,
        lambda asked, at, place: Campaign(at, asked.seed, place=place, hosts=asked.hosts),
        is_on_server=lambda asked: asked.hosts > 1,
        hosts=1,
    )


if __name__ == "__main__":
    main()
