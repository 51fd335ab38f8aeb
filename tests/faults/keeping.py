"""The campaign of what is kept: kill -9 in the middle of erasing, pruning, `record vacuum` and the
daemon's own removal, again and again, under load.

    python -m tests.faults.keeping --cycles 200 [--kills N] [--seed N] [--hosts N]

Clients send signed webhooks of many people, and repeat some. Time goes by for some events, by hand;
people are erased. Whatever is killed, with the daemon or beside it: nothing is done by half. With
--hosts, so many daemons work on one PostgreSQL. With --kills it goes on, under less load, until
each kind was killed so often at its work.
"""

import json
import random
import time
import zlib
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from premblyd.features.postgresql.settings import Server
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.ground.times import HOUR_MS
from tests.faults import campaigns, crash, kept
from tests.faults.crash import RETRY, Book
from tests.faults.daemon import Victim, folder
from tests.faults.kills import Kills
from tests.support import canaries, postgresql
from tests.support.configuration import shell
from tests.support.database import changing, rows
from tests.support.forking import Forked
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

CLIENTS = 3
PAUSE_S = (0.01, 0.06)  # between webhooks of a client
SLOW_S = (0.3, 0.9)  # in a long run: in each cycle all events are looked at
PEOPLE = 60
RETENTION = {"body": "2h", "identity": "3h", "record": "4h"}
AGES_MS = [int(hours * HOUR_MS) for hours in (1.5, 2.5, 3.5, 4.5)]
AGED = 25  # events for which time goes by in a cycle
WITHOUT_ALL = """
SELECT id FROM event WHERE removed_parts IS NULL
AND (SELECT count(*) FROM delivery WHERE event_id = event.id) <> 3
"""
EAGER = """
from premblyd.features.keeping import daemon
daemon.FIRST_S = daemon.REST_S = 0.1
daemon.WHOLE_EVERY_MS = 0
"""
NAMED = """
SELECT DISTINCT user_ref FROM event WHERE removed_parts IS NULL AND user_ref IS NOT NULL
ORDER BY user_ref
"""
DONE = "SELECT id FROM event WHERE removed_parts = 'erased'"
# It prints who it is about; every seventh run fails.
SCRIPT = """
cat > /dev/null; echo "$PREMBLY_REFERENCE $PREMBLY_USER_REF"; sleep 0.0$((PREMBLY_DELIVERY % 9))
test $((PREMBLY_DELIVERY % 7)) -ne 0
"""
OVER = """
SELECT id FROM event WHERE NOT EXISTS (SELECT 1 FROM delivery WHERE event_id = event.id
AND state IN ('pending', 'running')) ORDER BY id
"""


def user_of(token: str) -> str:
    """Return the person whom the webhook with this token is about."""
    return f"person-{zlib.crc32(_base(token).encode()) % PEOPLE:03}"


def reference_of(token: str) -> str:
    """Return the reference of its verification."""
    return f"ref-{_base(token)}"


def _base(token: str) -> str:
    """Return the token of the verification: another webhook of it has one that ends with v."""
    return token.rstrip("v")


def bvn_of(token: str) -> str:
    """Return what is in no other body."""
    return f"bvn-{zlib.crc32(token.encode()):08x}-{token}-end"


def face_of(token: str) -> str:
    """Return what is in its body alone, and in no column."""
    return f"face-{zlib.crc32(token.encode()):08x}-{token}-end"


def body_of(token: str) -> bytes:
    """Return the one body that is sent with `token`."""
    return json.dumps(
        {
            "response_code": "00",
            "detail": f"Found {bvn_of(token)}",
            "verification": {"status": "VERIFIED", "reference": reference_of(token)},
            "session_id": f"session-{_base(token)}",
            "widget_info": {"user_ref": user_of(token)},
            "data": {"bvn": bvn_of(token), "face": face_of(token)},
        }
    ).encode()


class Keeper(Victim):
    """A daemon that removes what is old as soon as it starts, and again and again."""

    before = EAGER


class Client(crash.Client):
    """Sends webhooks of people, and more of verifications that are there."""

    def _send_more(self, token: str, earlier: str) -> None:
        chance = self._rng.random()
        if chance < 0.2:
            self._send(earlier)
        elif chance < 0.4:
            self._send(f"{earlier}v")

    def _body(self, token: str) -> bytes:
        return body_of(token)


class Campaign:
    """Cycles of load, aging, erasing, kills and checks."""

    def __init__(
        self,
        at: Path,
        seed: int,
        *,
        place: DatabaseAddress | None = None,
        hosts: int = 1,
        kills: int = 0,
    ) -> None:
        """`kills`: it ends when so many of each kind were killed."""
        self._enough = kills
        self.rng = random.Random(seed)
        self.at = at
        self.book = Book()
        self.figures: Counter[str] = Counter()
        self.kills = Kills(self.rng, self.figures)
        self.aged_ms: Counter[int] = Counter()  # of each event
        self.asked: dict[str, set[int]] = {}  # events of people whose erasure was begun
        self.erased: dict[str, set[int]] = {}  # and ended
        self.batches: list[tuple[str, set[int]]] = []  # what is erased with one another
        self.victims = []
        for number in range(hosts):
            own = at / f"host-{number}"
            own.mkdir()
            more = {"hosts": {"name": f"host-{number}", "lost_after": "1s"}} if hosts > 1 else {}
            self.victims.append(
                Keeper(
                    own,
                    place=place,
                    retention=RETENTION,
                    actions=[
                        shell("count", SCRIPT, retry=RETRY, concurrency=4),
                        shell("once", SCRIPT, retry=RETRY, once="reference"),
                        shell("line", SCRIPT, retry=RETRY, order="reference"),
                    ],
                    **more,
                )
            )
        self.place = self.victims[0].place
        self._harms: dict[str, Callable[[], None]] = {
            "erase": self._kill_erase,
            "prune": self._kill_prune,
            "daemon": self._kill_daemon,
            "vacuum": self._kill_vacuum,
        }

    def run(self, cycles: int, *, say_every: int = 0) -> list[str]:
        """Run the campaign and return every broken promise."""
        kills = self._enough
        with ExitStack() as opened:
            for victim in self.victims:
                opened.enter_context(victim).restart()
            target: crash.Target = self.victims[0]
            if len(self.victims) > 1:
                target = opened.enter_context(Proxy([victim.address for victim in self.victims]))
            pause_s = SLOW_S if kills else PAUSE_S
            clients = [
                Client(target, self.book, number, random.Random(self.rng.random()), pause_s)
                for number in range(CLIENTS)
            ]
            with campaigns.sending(clients):
                wait_until(lambda: len(self.book.events) > PEOPLE // 3)
                for _ in campaigns.count_cycles(cycles, say_every, self._so_far):
                    if kills and self.kills.are_enough(self._harms, kills):
                        break
                    time.sleep(self.rng.uniform(0.05, 0.3))
                    self._harms[self.kills.rarest(self._harms)]()
                    self._check()
            self._end()
        return self.book.problems

    def _end(self) -> None:
        """Let all end that was begun; then nothing of it may be in any file."""
        for user in {self._choose(), *self.asked} - self.erased.keys():
            wait_until(lambda user=user: self._erase(user))  # type: ignore[misc]
        self.victims[0].finish()
        self._age()
        self._command("record", "prune", "--yes")
        self._check()
        for victim in self.victims:
            self.book.problems += victim.end()
        if file := file_of(self.place):
            self._check_files(file.parent)
        self.figures.update(kept.figures(self.place))
        self.figures["events acknowledged"] = len(self.book.events)

    def _so_far(self) -> str:
        return f"{len(self.book.events)} events, {dict(self.kills.counts)} killed"

    # --- Harm -----------------------------------------------------------------------------

    def _kill_erase(self) -> None:
        """Kill an erasure, now and then the daemon with it; every fourth time let it end."""
        user = self._choose()
        chance = self.rng.random()
        if chance < 0.25:
            self._erase(user)
            return
        self._note_asked(user)
        victim = self.rng.choice(self.victims)
        also = victim.process.kill if chance > 0.8 else lambda: None
        self._killed(victim, "person", "erase", "--user-ref", user, "--yes", also=also)
        if chance > 0.8:
            victim.end_now()
            self.figures["kills of both"] += 1
            victim.restart()

    def _kill_prune(self) -> None:
        self._age()
        self._killed(self.rng.choice(self.victims), "record", "prune", "--yes")

    def _kill_vacuum(self) -> None:
        """Kill it while no daemon works on the file; on a server they go on."""
        victim = self.rng.choice(self.victims)
        if not isinstance(self.place, Server) and victim.stop() != 0:
            self.book.problems.append("it did not stop cleanly")
        self._killed(victim, "record", "vacuum")
        if not isinstance(self.place, Server):
            self.book.problems += kept.broken(self.place)
            victim.restart()

    def _kill_daemon(self) -> None:
        """Kill a daemon while it removes what is old by itself."""
        self._age()
        self.kills.note("daemon", self.rng.choice(self.victims).crash(self.rng, 1.0))

    def _killed(
        self, victim: Victim, *words: str, also: Callable[[], object] = lambda: None
    ) -> None:
        self.kills.kill(words[1], partial(self._start, victim, *words), also)

    def _choose(self) -> str:
        """Return somebody of whom there is something."""
        people: list[str] = [user for (user,) in rows(self.place, NAMED)]
        return self.rng.choice(people or [user_of("0-1")])

    def _note_asked(self, user: str) -> None:
        """Put down what is to be erased with one another."""
        with self.book.lock:
            own = {event for token, event in self.book.events.items() if user_of(token) == user}
        self.asked.setdefault(user, set()).update(own)
        done = {event for (event,) in rows(self.place, DONE)}
        self.batches.append((user, own - done))

    def _age(self) -> None:
        """Let time go by for some events of which nothing waits or runs."""
        found = [event for (event,) in rows(self.place, OVER)]
        chosen = self.rng.sample(found, min(AGED, len(found)))
        with changing(self.place) as database:
            if not isinstance(self.place, Server):  # as premblyd does, whatever it changes
                database.execute("PRAGMA secure_delete = on")
            for event in sorted(chosen):
                by_ms = self.rng.choice(AGES_MS)
                self.aged_ms[event] += by_ms
                aged = "UPDATE event SET received_at_ms = received_at_ms - ? WHERE id = ?"
                database.execute(aged, (by_ms, event))
            database.execute("DELETE FROM sweep")
        self.figures["events that grew old"] += len(chosen)

    def _erase(self, user: str) -> bool:
        """Erase somebody. Return whether it ended, and not as the database was held up."""
        self._note_asked(user)
        # 1: nothing was there any more that could be erased.
        if self._command("person", "erase", "--user-ref", user, "--yes", codes=(0, 1, 75)) == 75:
            return False
        self.erased.setdefault(user, set()).update(self.asked[user])
        self.figures["erasures that ended"] += 1
        return True

    def _command(self, *words: str, codes: Sequence[int] = (0,)) -> int:
        code = self._start(self.rng.choice(self.victims), *words).wait()
        if code not in codes:
            said = (self.at / "said").read_text()[-1000:]
            self.book.problems.append(f"{words[0]} ended with {code}: {said}")
        return code

    def _start(self, victim: Victim, *words: str, **more: Any) -> Forked:
        with (self.at / "said").open("ab") as said:
            return Forked([*words, "--config", victim.config], stdout=said, stderr=said, **more)

    # --- Promises -------------------------------------------------------------------------

    def _check(self) -> None:
        """Nothing is done by half."""
        with self.book.lock:
            promised = dict(self.book.events)
        found = kept.broken(self.place)
        found += [f"event {event} lacks deliveries" for (event,) in rows(self.place, WITHOUT_ALL)]
        state = kept.events(self.place)
        for token, event in promised.items():
            found += self._broken_of(token, event, state.get(event))
        for user, events in self.batches:
            found += self._half_erased(user, events, state)
        for user, events in self.erased.items():
            if back := _left(user, events, state):
                found.append(f"{user} was erased, and {sorted(back)} are there")
        self.book.problems += found
        if found:
            raise AssertionError("\n".join(found[:20]))

    def _broken_of(self, token: str, event: int, row: kept.Stored | None) -> list[str]:
        """Return what is wrong with an acknowledged webhook: it is whole, or lacks what its age
        says, or was erased."""
        aged_ms = self.aged_ms[event]
        if row is None:
            return [f"event {event} is lost"] if aged_ms < 4 * HOUR_MS else []
        if row.removed_parts is None:
            is_whole = row.body == body_of(token) and row.user_ref == user_of(token)
            return [] if is_whole else [f"event {event} is not as it came"]
        if row.removed_parts == "erased":
            return [] if user_of(token) in self.asked else [f"event {event} of nobody is erased"]
        least_ms = {"body": 2 * HOUR_MS, "identity": 3 * HOUR_MS}[row.removed_parts]
        return (
            [f"event {event} lost its {row.removed_parts} too early"] if aged_ms < least_ms else []
        )

    def _half_erased(self, user: str, events: set[int], state: dict[int, kept.Stored]) -> list[str]:
        """Return whether some of these events of a person are erased and others are not."""
        left = _left(user, events, state)
        done = {
            event for event in events if event in state and state[event].removed_parts == "erased"
        }
        if done and left:
            return [f"{user} is erased by half: {sorted(done)}, not {sorted(left)}"]
        return []

    def _check_files(self, at: Path) -> None:
        """Nothing of what was erased or removed is in the files of a stopped daemon."""
        state = kept.events(self.place)
        gone: set[str] = set()
        for token, event in self.book.events.items():
            removed_parts = state[event].removed_parts if event in state else "record"
            if removed_parts is not None:
                gone.add(face_of(token))
            if removed_parts not in (None, "body"):
                gone.add(bvn_of(token))
        for path, content in canaries.files(at):
            if not path.name.startswith("premblyd.db"):
                continue
            if hits := [mark for mark in gone if mark.encode() in content]:
                self.book.problems.append(f"{path.name} has {len(hits)}: {hits[:5]}")
        self.figures["marks that are gone"] = len(gone)


def _left(user: str, events: set[int], state: dict[int, kept.Stored]) -> set[int]:
    """Return which of these events still name their person."""
    return {event for event in events if event in state and state[event].user_ref == user}


def main() -> None:
    def make(opened: ExitStack, asked: Namespace) -> Campaign:
        at = opened.enter_context(folder())
        place = opened.enter_context(postgresql.server()) if asked.hosts > 1 else None
        return Campaign(at, asked.seed, place=place, hosts=asked.hosts, kills=asked.kills)

    campaigns.main(__doc__, make, cycles=200, say_every=20, hosts=1, kills=0)


if __name__ == "__main__":
    main()
