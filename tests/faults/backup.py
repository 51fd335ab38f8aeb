"""The campaign of backups: kill -9 in the middle of backing up and of putting back, again and
again, under load.

    python -m tests.faults.backup --cycles 200 [--kills N] [--sealed 1] [--postgresql 1] [--seed N]

Clients send signed webhooks of many people, who are erased meanwhile. Whatever is killed: each copy
that has its name opens and is whole, nothing in clear is beside it, the next run leaves nothing of
the one before, and what is put back is one of the copies, without who was erased since, or the
database as it was.

With --sealed, or on PostgreSQL, there is `encryption`: copies have no keys, erasing is killed too,
and the keys' copy has no key of who was erased. On PostgreSQL a dump is put into a database of its
own, and `restore --only-keys` is killed. With --kills it goes on, under less load, until each kind
was killed so often at its work.
"""

import json
import os
import random
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pyrage

from premblyd.databases import DatabaseAddress, Server
from premblyd.engines.connections import connect_read_only
from premblyd.model.tables import Event
from premblyd.record import queries
from premblyd.record.queries import WholeEvent
from premblyd.words import Sealed
from tests.faults import campaigns, kept
from tests.faults.crash import RETRY, Book
from tests.faults.daemon import Victim
from tests.faults.keeping import PAUSE_S, Client, bvn_of, reference_of
from tests.faults.kills import Kills
from tests.support import postgresql
from tests.support.configuration import shell
from tests.support.database import rows
from tests.support.forking import Forked
from tests.support.sealing import KEY, VAULT
from tests.support.waiting import wait_until

CLIENTS = 3
SLOW_S = (0.2, 0.6)  # between webhooks, in a long run: each copy has all events
KEEP = 3
LEAST_EVENTS = 20
EVENTS = "SELECT key, lacks, reference, body FROM event ORDER BY id"
OF_USER = "SELECT reference, key FROM event WHERE user_ref = ? ORDER BY id"
PEOPLE = "SELECT DISTINCT user_ref FROM event WHERE user_ref IS NOT NULL ORDER BY user_ref"
COUNT_ERASURES = "SELECT count(*) FROM erasure"
Events = dict[str, list[Any]]  # what EVENTS gives of each, by its key


def events_in(path: Path) -> Events:
    """Return what a database without a log has of each event."""
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        return {key: of_event for key, *of_event in connection.execute(EVENTS)}


def events_of(place: DatabaseAddress) -> Events:
    """Return what a database has of each event, as anyone may who reads it."""
    found = rows(place, EVENTS)
    return {key: [lacks, reference, bytes(body)] for key, lacks, reference, body in found}


class Notes(Book):
    """What clients were promised. What came after a copy is not there once that was put back, so
    the same webhook may be another event then."""

    def note(self, token: str, status: int, content: dict[str, Any]) -> None:
        with self.lock:
            self.answers[status] += 1
            if status == 200:
                self.events[token] = content["event"]


class Campaign:
    """Cycles of load, erasing, kills and checks."""

    def __init__(
        self, at: Path, seed: int, *, place: DatabaseAddress | None = None, sealed: bool = False
    ) -> None:
        self.rng = random.Random(seed)
        self.at = at
        self.book = Notes()
        self.figures: Counter[str] = Counter()
        self.kills = Kills(self.rng, self.figures)
        self.erased: set[str] = set()  # references: who comes under another one is a new person
        self.gone: set[str] = set()  # keys of events that were erased
        self.whole: set[tuple[str, int]] = set()  # copies that were looked through
        self.identity = pyrage.x25519.Identity.generate()
        self.key, self.copies, self.keys = at / "key", at / "copies", at / "keys"
        self.key.write_text(str(self.identity))
        for folder in (self.copies, self.keys):
            folder.mkdir()
        own = at / "host"
        own.mkdir()
        self.sealed = sealed or isinstance(place, Server)
        backup: dict[str, Any] = {"recipients": [str(self.identity.to_public())]}
        more: dict[str, Any] = {}
        if self.sealed:
            (own / "data-key").touch(0o600)
            (own / "data-key").write_text(KEY)
            backup["keys"] = str(self.keys)
            more = {"encryption": {"key": {"file": "data-key"}}}
        self.victim = Victim(
            own,
            place=place,
            backup=backup,
            actions=[shell("count", "cat > /dev/null", retry=RETRY, concurrency=4)],
            **more,
        )
        self.place = self.victim.place
        self._harms: dict[str, Callable[[], None]] = {"backup": self._kill_backup}
        if self.sealed:
            self._harms["erase"] = self._kill_erase
        if isinstance(self.place, Server):
            self._harms["restore --only-keys"] = self._kill_only_keys
        else:
            self._harms["restore"] = self._kill_restore

    def run(self, cycles: int, *, say_every: int = 0, kills: int = 0) -> list[str]:
        """Run the campaign and return every broken promise. `kills`: until so many of each kind."""
        with self.victim as victim:
            victim.restart()
            pause_s = SLOW_S if kills else PAUSE_S
            clients = [
                Client(victim, self.book, number, random.Random(self.rng.random()), pause_s)
                for number in range(CLIENTS)
            ]
            with campaigns.sending(clients):
                wait_until(lambda: len(self.book.events) > LEAST_EVENTS)
                for cycle in campaigns.count_cycles(cycles, say_every, self._so_far):
                    if kills and self.kills.are_enough(self._harms, kills):
                        break
                    time.sleep(self.rng.uniform(0.05, 0.3))
                    self._harms[self.kills.rarest(self._harms)]()
                    if cycle % 4 == 0:
                        self._erase()
            self.book.problems += victim.end()
        return self.book.problems

    def _so_far(self) -> str:
        return f"{len(self.book.events)} events, {dict(self.kills.counts)} killed"

    # --- Harm -----------------------------------------------------------------------------

    def _kill_backup(self) -> None:
        """Kill backups, and now and then the daemon with one; then make one."""
        for _ in range(self.rng.randint(1, 3)):
            before = self._names()
            also = self._kill_daemon if self.rng.random() < 0.1 else lambda: None
            self._killed("backup", self.copies, "--keep", KEEP, also=also)
            if self.victim.process.poll() is not None:
                self.figures["kills of both"] += 1
                self.victim.restart()
            gone = before - self._names()
            if gone and not self._names() - before:
                self._broken(f"{sorted(gone)} went, and there is no new copy")
            self._check_copies()
        self._command("backup", self.copies, "--keep", KEEP)
        self._check_copies()
        left = [path.name for path in self.copies.iterdir() if path.name.endswith(".part")]
        if left or len(self._names()) > KEEP:
            self._broken(f"left: {left}, copies: {sorted(self._names())}")

    def _kill_daemon(self) -> None:
        self.victim.end_now()

    def _kill_restore(self) -> None:
        """Kill what puts a copy back, several times, then mostly let it end; the daemon goes on
        with what is there."""
        assert isinstance(self.place, Path)
        self._command("backup", self.copies, "--keep", KEEP)
        if self.victim.stop() != 0:
            self._broken("it did not stop cleanly")
        # What came after an older copy has no keys any more once that was put back.
        copy = self._newest() if self.sealed else self.rng.choice(sorted(self._names()))
        copied, before = self._opened(self.copies / copy), events_in(self.place)
        words = ("restore", self.copies, "--copy", copy, "--identity", self.key)
        for _ in range(self.rng.randint(2, 5)):
            self._killed(*words)
            if self.place.exists() and (now := events_of(self.place)) != before:
                self._check_restored(copied, now)
        if not self.place.exists() or self.rng.random() < 0.7:
            self._command(*words)
            self._check_restored(copied, events_in(self.place))
            self._check_opens(self.place)
        self.victim.restart()
        for folder in self.place.parent.glob(f"{self.place.name}.replaced-*"):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
        self.figures["events put back"] += len(copied)

    def _kill_only_keys(self) -> None:
        """Put a dump into a database of its own, and kill what gives it its keys, several times,
        then let that end."""
        assert isinstance(self.place, Server)
        if not self._names():
            self._command("backup", self.copies, "--keep", KEEP)
        copy = self.copies / self._newest()
        dump = pyrage.decrypt(copy.read_bytes(), [self.identity])
        with postgresql.restored(self.place, dump) as server:
            copied = events_of(server)
            config = self._config_for(server)
            words = ("restore", self.copies, "--only-keys", "--identity", self.key)
            for _ in range(self.rng.randint(2, 4)):
                self._killed(*words, config=config)
                self._check_found(kept.broken(server), "half restored")
            self._command(*words, config=config)
            self._check_restored(copied, events_of(server))
            self._check_opens(server)
            self._check_found(kept.broken(server), "restored")
        self.figures["events put back"] += len(copied)

    def _config_for(self, server: Server) -> Path:
        settings = json.loads(self.victim.config.read_text())
        path = self.victim.config.with_name("restored.yaml")
        path.write_text(json.dumps(settings | {"database": server.url}))
        return path

    def _require_whole(self, copy: Path) -> None:
        """A dump can be read to its end."""
        program = postgresql.binaries() / "pg_restore"
        dump = pyrage.decrypt(copy.read_bytes(), [self.identity])
        done = subprocess.run(
            [program, f"--file={os.devnull}"], input=dump, capture_output=True, check=False
        )
        if done.returncode:
            self._broken(f"{copy.name} is not whole: {done.stderr.decode()}")

    def _kill_erase(self) -> None:
        """Kill an erasure; then the same command goes on, with the keys' copy too."""
        chosen = self._choose()
        if chosen is None:
            return
        user, found = chosen
        before = rows(self.place, COUNT_ERASURES)
        self._killed("erase", "--user-ref", user, "--yes")
        if rows(self.place, COUNT_ERASURES) == before:
            return
        self._note_erased(found)
        self._command("erase", "--user-ref", user, "--yes", codes=(0, 1, 75))
        self._check_keys()

    def _erase(self) -> None:
        """Erase somebody; then a new copy has nothing of her."""
        chosen = self._choose()
        if chosen is None:
            return
        user, found = chosen
        before = rows(self.place, COUNT_ERASURES)
        # 75: she is erased and a reader pins the log, or the daemon wrote for too long to begin.
        while rows(self.place, COUNT_ERASURES) == before:
            self._command("erase", "--user-ref", user, "--yes", codes=(0, 75))
        self._note_erased(found)
        self._command("backup", self.copies, "--keep", KEEP)
        self._check_keys()
        content = pyrage.decrypt((self.copies / self._newest()).read_bytes(), [self.identity])
        with self.book.lock:
            own = [token for token in self.book.events if reference_of(token) in found]
        if hits := [token for token in own if bvn_of(token).encode() in content]:
            self._broken(f"a copy has {len(hits)} of who was erased before it")
        self.figures["people erased"] += 1
        self.figures["marks sought in copies"] += len(own)

    def _choose(self) -> tuple[str, dict[str, str]] | None:
        """Return somebody, with the keys of the events by their references."""
        people = [user for (user,) in rows(self.place, PEOPLE)]
        if not people:
            return None
        user: str = self.rng.choice(people)
        return user, dict(rows(self.place, OF_USER, user))

    def _note_erased(self, found: dict[str, str]) -> None:
        self.erased |= found.keys()
        self.gone |= set(found.values())

    def _killed(
        self,
        *words: object,
        also: Callable[[], object] = lambda: None,
        config: Path | None = None,
    ) -> None:
        kind = "restore --only-keys" if "--only-keys" in words else str(words[0])
        self.kills.kill(kind, partial(self._start, *words, config=config), also)

    def _start(self, *words: object, config: Path | None = None, **more: Any) -> Forked:
        with (self.at / "said").open("ab") as said:
            whole = [*words, "--config", config or self.victim.config]
            return Forked(whole, stdout=said, stderr=said, **more)

    def _command(
        self, *words: object, codes: tuple[int, ...] = (0,), config: Path | None = None
    ) -> None:
        code = self._start(*words, config=config).wait()
        if code not in codes:
            said = (self.at / "said").read_text()[-1000:]
            self._broken(f"{words[0]} ended with {code}: {said}")

    # --- Promises -------------------------------------------------------------------------

    def _names(self) -> set[str]:
        return {path.name for path in self.copies.glob("premblyd-*")}

    def _newest(self) -> str:
        found = self.copies.glob("premblyd-*")
        return max(found, key=lambda path: path.stat().st_mtime_ns).name

    def _check_copies(self) -> None:
        """Each opens and is whole; nothing there is in clear."""
        for path in self.copies.iterdir():
            state = path.name, path.stat().st_mtime_ns
            if state in self.whole:
                continue
            content = path.read_bytes()
            if b"SQLite format" in content or b"bvn-" in content or content[:5] == b"PGDMP":
                self._broken(f"{path.name} has something in clear")
            if path.name.endswith(".part"):
                continue
            if isinstance(self.place, Server):
                self._require_whole(path)
            else:
                self._opened(path)
            self.whole.add(state)
            self.figures["copies looked through"] += 1
        if isinstance(self.place, Path) and (clear := [*self.place.parent.glob("*.part")]):
            self._broken(f"beside the database are {clear}")

    def _opened(self, path: Path) -> Events:
        with tempfile.TemporaryDirectory(dir=self.at) as folder:
            opened = Path(folder) / "opened.db"
            opened.write_bytes(pyrage.decrypt(path.read_bytes(), [self.identity]))
            found = [*kept.broken(opened)]
            if rows(opened, "PRAGMA integrity_check") != [("ok",)]:
                found.append("it is damaged")
            self._check_found(found, f"copy {path.name}")
            return events_in(opened)

    def _check_found(self, found: list[str], where: str) -> None:
        for problem in found:
            self._broken(f"{where}: {problem}")

    def _check_restored(self, copied: Events, now: Events) -> None:
        """It is the copy, without who was erased."""
        if copied.keys() != now.keys():
            self._broken("what was put back has other events than the copy")
        for key, of_event in copied.items():
            if of_event[1] in self.erased:
                if now[key] != ["erased", None, b""]:
                    self._broken(f"{key}: who was erased came back")
            elif now[key] != of_event:
                self._broken(f"{key} is not as in the copy")

    def _check_opens(self, place: DatabaseAddress) -> None:
        """What is sealed there has its keys."""
        if not self.sealed:
            return
        with closing(connect_read_only(place, VAULT)) as database:
            query = Event.select(*queries.columns(Event, WholeEvent))
            found = queries.rows(database, query, WholeEvent)
            lost = [row.id for row in found if isinstance(row.body, Sealed)]
        if lost:
            self._broken(f"nobody can open the events {lost}")

    def _check_keys(self) -> None:
        """The keys' copy has no key of who was erased."""
        if not self.sealed:
            return

        def left() -> set[str]:
            found: set[str] = set()
            for path in self.keys.glob("premblyd-keys-[0-9]*.age"):
                opened = pyrage.decrypt(path.read_bytes(), [self.identity])
                found |= json.loads(opened)["keys"].keys()
            return found & self.gone

        wait_until(lambda: not left())
        self.figures["times that the keys' copy was looked through"] += 1

    def _broken(self, promise: str) -> None:
        self.book.problems.append(promise)
        raise AssertionError(promise)


def main() -> None:
    campaigns.main_of_commands(
        __doc__,
        lambda asked, at, place: Campaign(at, asked.seed, place=place, sealed=bool(asked.sealed)),
        is_on_server=lambda asked: asked.postgresql,
        sealed=0,
        postgresql=0,
    )


if __name__ == "__main__":
    main()
