"""The campaign of backups: kill -9 in the middle of backing up and of putting back, again and
again, under load.

    python -m tests.faults.backup --cycles 200 [--seed N]

Clients send signed webhooks of many people, who are erased meanwhile. Whatever is killed: each copy
that has its name opens and is whole, nothing in clear is beside it, the next run leaves nothing of
the one before, and what is put back is one of the copies, without who was erased since, or the
database as it was.
"""

import random
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pyrage

from tests.faults import campaigns, kept
from tests.faults.crash import RETRY, Book
from tests.faults.daemon import Victim
from tests.faults.keeping import Client, bvn_of, reference_of
from tests.support.configuration import shell
from tests.support.database import rows
from tests.support.forking import Forked
from tests.support.waiting import wait_until

CLIENTS = 3
SETTLE_S = 60.0
PATIENCE_S = 120.0
LONGEST_S = 0.6  # of a command that is killed
KEEP = 3
LEAST_EVENTS = 20
EVENTS = "SELECT key, lacks, reference, body FROM event ORDER BY id"
OF_USER = "SELECT DISTINCT reference FROM event WHERE user_ref = ?"
Events = dict[str, list[Any]]  # what EVENTS gives of each, by its key


def events_in(path: Path) -> Events:
    """Return what a database without a log has of each event."""
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        return {key: of_event for key, *of_event in connection.execute(EVENTS)}


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

    def __init__(self, at: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.at = at
        self.book = Notes()
        self.figures: Counter[str] = Counter()
        self.erased: set[str] = set()  # references: who comes under another one is a new person
        self.identity = pyrage.x25519.Identity.generate()
        self.key, self.copies = at / "key", at / "copies"
        self.key.write_text(str(self.identity))
        self.copies.mkdir()
        own = at / "host"
        own.mkdir()
        self.victim = Victim(
            own,
            backup={"recipients": [str(self.identity.to_public())]},
            actions=[shell("count", "cat > /dev/null", retry=RETRY, concurrency=4)],
        )
        place = self.victim.place
        assert isinstance(place, Path)
        self.place = place

    def run(self, cycles: int, *, say_every: int = 0) -> list[str]:
        """Run the campaign and return every broken promise."""
        with self.victim as victim:
            victim.restart(SETTLE_S)
            clients = [
                Client(victim, self.book, number, random.Random(self.rng.random()))
                for number in range(CLIENTS)
            ]
            with campaigns.sending(clients):
                wait_until(lambda: len(self.book.events) > LEAST_EVENTS)
                for cycle in campaigns.count_cycles(
                    cycles, say_every, lambda: len(self.book.events)
                ):
                    time.sleep(self.rng.uniform(0.05, 0.3))
                    if cycle % 3:
                        self._kill_backup()
                    else:
                        self._kill_restore()
                    if cycle % 4 == 0:
                        self._erase()
            self.book.problems += victim.end()
        return self.book.problems

    # --- Harm -----------------------------------------------------------------------------

    def _kill_backup(self) -> None:
        """Kill a backup, and now and then the daemon with it; then make one."""
        before = self._names()
        process = self._start("backup", self.copies, "--keep", KEEP)
        time.sleep(self.rng.uniform(0, LONGEST_S))
        self._note("backup", process)
        if self.rng.random() < 0.2:
            self.victim.process.kill()
            self.victim.process.wait(10)
            self.victim.restart(SETTLE_S)
        gone = before - self._names()
        if gone and not self._names() - before:
            self._broken(f"{sorted(gone)} went, and there is no new copy")
        self._check_copies()
        self._command("backup", self.copies, "--keep", KEEP)
        self._check_copies()
        left = [path.name for path in self.copies.iterdir() if path.name.endswith(".part")]
        if left or len(self._names()) > KEEP:
            self._broken(f"left: {left}, copies: {sorted(self._names())}")

    def _kill_restore(self) -> None:
        """Kill what puts a copy back, then let it end; the daemon goes on with that."""
        if not self._names():
            self._command("backup", self.copies, "--keep", KEEP)
        if self.victim.stop() != 0:
            self._broken("it did not stop cleanly")
        name = self.rng.choice(sorted(self._names()))
        copied, before = self._opened(self.copies / name), events_in(self.place)
        words = ("restore", self.copies, "--copy", name, "--identity", self.key)
        process = self._start(*words)
        time.sleep(self.rng.uniform(0, LONGEST_S))
        self._note("restore", process)
        if self.place.exists():
            now = rows(self.place, "SELECT count(*) FROM event")[0][0]
            if now not in (len(before), len(copied)):
                self._broken(f"after a restore was killed, {now} events are there")
        if self.rng.random() < 0.5:
            self._command(*words)
            self._check_restored(copied, events_in(self.place))
        elif not self.place.exists():
            self._command(*words)
        self.victim.restart(SETTLE_S)
        for folder in self.place.parent.glob(f"{self.place.name}.replaced-*"):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
        self.figures["events put back"] += len(copied)

    def _erase(self) -> None:
        """Erase somebody; then a new copy has nothing of her."""
        people = {
            user for (user,) in rows(self.place, "SELECT DISTINCT user_ref FROM event") if user
        }
        if not people:
            return
        user = self.rng.choice(sorted(people))
        references = {reference for (reference,) in rows(self.place, OF_USER, user)}
        erasures = rows(self.place, "SELECT count(*) FROM erasure")
        # 75: she is erased and a reader pins the log, or the daemon wrote for too long to begin.
        while rows(self.place, "SELECT count(*) FROM erasure") == erasures:
            self._command("erase", "--user-ref", user, "--yes", codes=(0, 75))
        self.erased |= references
        self._command("backup", self.copies, "--keep", KEEP)
        newest = max(self.copies.glob("premblyd-*"), key=lambda path: path.stat().st_mtime_ns)
        content = pyrage.decrypt(newest.read_bytes(), [self.identity])
        with self.book.lock:
            own = [token for token in self.book.events if reference_of(token) in references]
        if hits := [token for token in own if bvn_of(token).encode() in content]:
            self._broken(f"a copy has {len(hits)} of who was erased before it")
        self.figures["people erased"] += 1
        self.figures["marks sought in copies"] += len(own)

    def _start(self, *words: object) -> Forked:
        with (self.at / "said").open("ab") as said:
            return Forked([*words, "--config", self.victim.config], stdout=said, stderr=said)

    def _note(self, kind: str, process: Forked) -> None:
        was_running = process.poll() is None
        process.kill()
        process.wait(10)
        self.figures[f"{kind}: {'killed' if was_running else 'ended before the kill'}"] += 1

    def _command(self, *words: object, codes: tuple[int, ...] = (0,)) -> None:
        code = self._start(*words).wait(PATIENCE_S)
        if code not in codes:
            said = (self.at / "said").read_text()[-1000:]
            self._broken(f"{words[0]} ended with {code}: {said}")

    # --- Promises -------------------------------------------------------------------------

    def _names(self) -> set[str]:
        return {path.name for path in self.copies.glob("premblyd-*")}

    def _check_copies(self) -> None:
        """Each opens and is whole; nothing there is in clear."""
        for path in self.copies.iterdir():
            content = path.read_bytes()
            if b"SQLite format" in content or b"bvn-" in content:
                self._broken(f"{path.name} has something in clear")
            if not path.name.endswith(".part"):
                self._opened(path)
                self.figures["copies looked through"] += 1
        if clear := [path.name for path in self.place.parent.glob("*.part")]:
            self._broken(f"beside the database are {clear}")

    def _opened(self, path: Path) -> Events:
        with tempfile.TemporaryDirectory(dir=self.at) as folder:
            opened = Path(folder) / "opened.db"
            opened.write_bytes(pyrage.decrypt(path.read_bytes(), [self.identity]))
            found = [*kept.broken(opened)]
            if rows(opened, "PRAGMA integrity_check") != [("ok",)]:
                found.append("it is damaged")
            for problem in found:
                self._broken(f"copy {path.name}: {problem}")
            return events_in(opened)

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

    def _broken(self, promise: str) -> None:
        self.book.problems.append(promise)
        raise AssertionError(promise)


def main() -> None:
    campaigns.main(
        __doc__,
        lambda opened, seed: Campaign(
            Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="premblyd-"))), seed
        ),
        cycles=200,
        say_every=20,
    )


if __name__ == "__main__":
    main()
