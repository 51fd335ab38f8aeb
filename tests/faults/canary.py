"""The canary campaign: what marks a person is sought in every place, after she was erased and after
the periods of another were over.

    python -m tests.faults.canary [--cycles N] [--seed N] [--postgresql 1] [--sealed 1|2|3]

A daemon gets webhooks of three people: its hooks print them, a server answers them back, Prembly is
asked, operators look. One person is erased while her hooks run and wait, and Prembly is asked; one
is pruned; the third must lose nothing. Sought as bytes, base64, hex, UTF-16, JSON and URL: in the
database and its files, logs, temporary files, processes, the console's pages, metrics and commands;
in backups made after that, opened, and in the database once a backup of before was put back; in
copies beside the database, and in what crashes leave.

With --sealed what came is sealed, from the start (1), or by `rekey` afterwards (2): then nothing of
a body, a header, a token, a session or of what hooks print may be in any file from then on, whoever
is erased; with names sealed too, from the start (3), no reference and no user_ref either. And of
who is erased, nothing of it in a backup of before, opened by the newest keys.

What it does not claim: a hook that runs at the erasure keeps what it was given until it ends; who
sent a webhook stays in the log, by address. On a server it sees what clients see: the server's own
files keep more, see docs/personal-data.md; and without --sealed a backup of before is not put back
there, as nothing would erase from it. What a journal gets is the log, here a file.
"""

import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pyrage

from premblyd.databases import DatabaseAddress, Server
from premblyd.engines.connections import connect_read_only
from premblyd.times import DAY_MS
from premblyd.vault import DataKey, Vault
from premblyd.verifications import pseudonyms
from tests.faults import campaigns, leavings, looking
from tests.faults.daemon import folder, table
from tests.faults.every_action import IDENTITY, echo, settings, slow
from tests.faults.people import Person
from tests.support import canaries, postgresql, prembly_api
from tests.support.canaries import Marks, Report
from tests.support.commands import Ran, run
from tests.support.daemon import Premblyd
from tests.support.database import changing
from tests.support.http_server import serving
from tests.support.prembly_api import Shape
from tests.support.sealing import KEY
from tests.support.waiting import wait_until

YEAR_MS = 366 * DAY_MS
SEALED = ("BVN", "name", "session", "token", "header", "request id", "photo")
NAMES = ("reference", "pending reference", "user_ref")
CLEAR, FROM_START, BY_REKEY, WITH_NAMES = range(4)
OPEN = "SELECT count(*) FROM delivery WHERE state = 'running' AND action <> 'waits'"
UNTRIED = """
SELECT count(*) FROM delivery WHERE state = 'pending' AND attempt_count = 0
AND waits_for_id IS NULL AND action <> 'waits'
"""
FIRST = "SELECT min(id) FROM event WHERE user_ref = ?"
RUNNING = "SELECT count(*) FROM delivery WHERE state = 'running'"
UNGONE = "SELECT count(*) FROM erasure WHERE gone_at_ms IS NULL"


def _opened(copy: Path) -> bytes:
    """Return what is sealed in a backup, a server's as the text that puts it back."""
    opened: bytes = pyrage.decrypt(copy.read_bytes(), [IDENTITY])
    if ".dump" in copy.name:
        texts = subprocess.run(["pg_restore", "--file=-"], input=opened, capture_output=True)
        return texts.stdout
    return opened


class Campaign:
    """One daemon, three people, and what is found of them."""

    def __init__(
        self,
        at: Path,
        seed: int,
        opened: ExitStack,
        *,
        place: DatabaseAddress | None = None,
        sealed: int = CLEAR,
    ) -> None:
        self.rng = random.Random(seed)
        self.sealed = sealed
        self.at = at
        self.figures: Counter[str] = Counter()
        self.problems: list[str] = []
        self.api = opened.enter_context(prembly_api.prembly_api())
        url = opened.enter_context(serving(echo)).url
        (at / "data-key").touch(0o600)
        (at / "data-key").write_text(KEY)
        self.settings = settings(at, self.api, url)
        identity = "sealed" if sealed == WITH_NAMES else "plain"
        encryption = {"key": {"file": "data-key"}, "identity": identity}
        self.sealed_settings = self.settings | {"encryption": encryption}
        self.marks_sealed = (*SEALED, *NAMES) if sealed == WITH_NAMES else SEALED
        if sealed in (FROM_START, WITH_NAMES):
            self.settings = self.sealed_settings
        self.daemon = opened.enter_context(Premblyd(at, place=place, **self.settings))
        names = ("erased", "pruned", "kept")
        self.erased, self.pruned, self.kept = (Person(self.rng, name) for name in names)

    def run(self) -> list[str]:
        """Run it; return what was found that should not be there, and what is missing."""
        for name in ("tmp", "copies", "before", "keys", "cores"):
            (self.at / name).mkdir()
        self._start()
        for person in (self.erased, self.pruned, self.kept):
            self._receive(person)
        for person in (self.erased, self.pruned, self.kept):
            self._operate(person)
            person.note_digests(self.daemon, self._user_of(person))
        if self.sealed == BY_REKEY:
            self._rekey()
        whole = self._whole(self.kept)
        self._command("backup", self.at / "before")
        self._ask(self.erased)
        self._expect_found()
        if self.sealed:
            self._look_for_sealed("before the erasure")
        self._erase(self.erased)
        self._look("after the erasure", self.erased)
        self._come_late(self.erased)
        self._look("after what came late", self.erased)
        self._prune(self.pruned)
        self._look("after the pruning", self.erased, self.pruned)
        if self.daemon.stop() != 0:
            self.problems.append("it did not stop cleanly")
        if self.sealed:
            self._look_for_sealed("after the stop")
        self._look("after the stop", self.erased, self.pruned)
        self._start()
        self._crash()
        self._look("after the next start, and crashes", self.erased, self.pruned)
        if self._whole(self.kept) != whole:
            self.problems.append("the third person has lost something")
        self._put_back()
        return self.problems

    def _erase(self, person: Person) -> None:
        """Erase a person, and the copies that hold her."""
        place = self.daemon.place
        left = [] if isinstance(place, Server) else leavings.copies_of(place)
        words = ("--user-ref", person.user_ref, "--yes", "--search", person.bvn)
        self._command("erase", *words, *(("--copies", "delete") if left else ()))
        self.problems += [f"{path.name} was not deleted" for path in left if path.exists()]

    def _crash(self) -> None:
        """Crash the daemon, and a command that shows what is known of the third person: neither
        leaves its memory in a file, though here it is let do that."""
        folder = self.at / "cores"
        self.figures["core dumps would be seen"] += leavings.are_seen(folder)
        for number in (signal.SIGABRT, signal.SIGSEGV):
            leavings.crash(self.daemon, number)
            self._start()
            self._wait_until_quiet()
        [(event,)] = self.daemon.rows(FIRST, self._user_of(self.kept))
        shown = ("show", event, "--reveal", "--config", self.daemon.config)
        leavings.crash_command(folder, *shown)
        self.problems += [f"a core dump: {path.name}" for path in folder.iterdir()]
        self.figures["crashes"] += 3

    def _put_back(self) -> None:
        """Put back the backup of before, in which all are: of the erased nothing may come with it.
        (What was pruned is over there too, and goes when the daemon looks.)"""
        [copy] = (self.at / "before").iterdir()
        report = Report()
        report.look("backup", copy.name, _opened(copy), self.erased.marks())
        if not report.hits:
            self.problems.append("nobody was in the backup of before")
        identity = self.at.with_name(f"{self.at.name}-key")
        identity.write_text(f"{IDENTITY}\n")
        if isinstance(self.daemon.place, Server):
            if self.sealed:
                self._put_dump_back(self.daemon.place, copy, identity)
        else:
            self._put_file_back(copy, identity)
        identity.unlink()

    def _put_dump_back(self, server: Server, copy: Path, identity: Path) -> None:
        """Put a dump into a database of its own, and give it its keys."""
        with postgresql.restored(server, pyrage.decrypt(copy.read_bytes(), [IDENTITY])) as own:
            self._check_opened(copy, own)
            self.daemon.configure(**self.sealed_settings, database=own.url)
            words = ("--only-keys", "--identity", identity)
            self._command("restore", self.at / "before", *words)
            self.daemon.configure(**self.sealed_settings, database=server.url)
            report = Report()
            for name, content in canaries.tables(own):
                report.look("dump", name, content, self.erased.marks())
            self.problems += [f"after a dump was put back: {hit}" for hit in report.hits]

    def _put_file_back(self, copy: Path, identity: Path) -> None:
        if self.sealed:
            self._open_by_newest_keys(copy)
        if self.daemon.stop() != 0:
            self.problems.append("it did not stop cleanly")
        self._command("restore", self.at / "before", "--identity", identity)
        self._start()
        self._look("after the backup of before was put back", self.erased)

    def _open_by_newest_keys(self, copy: Path) -> None:
        place = self.at.with_name(f"{self.at.name}-opened")
        place.write_bytes(_opened(copy))
        self._check_opened(copy, place)
        place.unlink()

    def _check_opened(self, copy: Path, place: DatabaseAddress) -> None:
        """Open the backup of before by the newest keys: the erased is in nothing of it any more."""
        secrets: dict[str, str] = {}
        for path in (self.at / "keys").glob("premblyd-keys-[0-9]*.age"):
            secrets |= json.loads(_opened(path))["keys"]
        texts = b"\n".join(canaries.sealed_values(place, secrets))
        report = Report()
        marks = {self.erased.user_ref: self.erased.marks().starting(*self.marks_sealed)}
        report.look("backup", copy.name, texts, Marks.joined(marks))
        self.problems += [f"the backup of before, by the newest keys: {hit}" for hit in report.hits]
        if self.kept.bvn.encode() not in texts:
            self.problems.append("the newest keys open nothing of the backup of before")

    def _start(self) -> None:
        places = dict.fromkeys(("TMPDIR", "SQLITE_TMPDIR"), str(self.at / "tmp"))
        if isinstance(self.daemon.place, Server):  # where others find the daemon then
            places = {}
        self.daemon.start(leavings.dumping(self.at / "cores"), (), (), True, **places)

    def _receive(self, person: Person) -> None:
        """Send all that comes of a person, and wait until only the hook that waits still runs."""
        known = self.api.know(person.reference, user_ref=person.user_ref, shape=Shape.WEBHOOK)
        known.session_id = person.session
        open_one = self.api.know(
            person.pending, user_ref=person.user_ref, status="PENDING", code="02"
        )
        for body in (
            person.body(person.reference),
            person.body(person.reference.upper(), odd=True),
            person.body(person.reference.replace("-", "")),
            person.body(person.pending, verified=False),
            person.body(person.reference),
        ):
            self._send(person, body)
        wait_until(lambda: self.api.asked(person.pending) >= 2)
        open_one.status, open_one.code = "VERIFIED", "00"
        settled = "SELECT count(*) FROM awaited WHERE state = 'waiting'"
        wait_until(lambda: self.daemon.rows(settled) == [(0,)])
        self._wait_until_quiet()

    def _wait_until_quiet(self) -> None:
        for sql in (UNTRIED, OPEN):
            wait_until(lambda: self.daemon.rows(sql) == [(0,)])  # noqa: B023

    def _send(self, person: Person, body: bytes) -> None:
        answer = self.daemon.send(body, **person.headers())
        if answer.status != 200:
            self.problems.append(f"a webhook was answered {answer.status}")

    def _operate(self, person: Person) -> None:
        """Do what operators do: look, replay, hold and let go."""
        [(event,)] = self.daemon.rows(FIRST, self._user_of(person))
        self._command("show", event, "--reveal")
        self._command("replay", event, "--action", "prints", "--yes")
        reason = ("--reason", f"{person.texts['reason']} of {person.user_ref}")
        self._command("hold", "--user-ref", person.user_ref, *reason)
        self._command("hold", "--reference", person.reference, *reason)
        self._command("hold", "--user-ref", person.user_ref, "--end")
        self._command("hold", "--reference", person.reference, "--end")
        self._wait_until_quiet()

    def _ask(self, person: Person) -> None:
        """Have two questions to Prembly open that are answered later."""
        for reference, is_verified in ((person.confirming, True), (person.asking, False)):
            known = self.api.know(reference, user_ref=person.user_ref, shape=Shape.WEBHOOK)
            known.session_id = person.session
            self.api.fail(slow, reference)
            self._send(person, person.body(reference, verified=is_verified))
        for reference in (person.confirming, person.asking):
            wait_until(lambda: self.api.asked(reference))  # noqa: B023

    def _command(self, *arguments: object, codes: tuple[int, ...] = (0,)) -> Ran:
        done = run(*arguments, "--config", self.daemon.config)
        if done.code not in codes:
            self.problems.append(f"{arguments[0]} ended with {done.code}: {done.out}{done.err}")
        return done

    def _expect_found(self) -> None:
        """Look where the marks must be, so that looking elsewhere proves something."""
        report = Report()
        marks = self.erased.marks()
        for name, content in self._stored():
            report.look("database", name, content, marks)
        found = {hit.partition(": ")[2].partition(" (")[0] for hit in report.hits}
        self.figures["marks of each person"] = len(marks.needles)
        made = {
            name for name in marks.needles if "reference in" in name or "reference with" in name
        }
        made |= {name for name in marks.needles if "bytes at" in name}
        if self.sealed:
            made |= {name for name in marks.needles if name.startswith(self.marks_sealed)}
        if missing := marks.needles.keys() - found - made - {"reason"}:
            self.problems.append(f"nothing was there to erase: {sorted(missing)}")

    def _rekey(self) -> None:
        """Have sealed what is stored, while the daemon works."""
        self.daemon.kill()  # a hook waits
        self.daemon.configure(**self.sealed_settings)
        self._start()
        self._command("rekey")
        self._wait_until_quiet()

    def _look_for_sealed(self, when: str) -> None:
        """Look for what is sealed in every file."""
        report = Report()
        people = (self.erased, self.pruned, self.kept)
        sealed = {each.user_ref: each.marks().starting(*self.marks_sealed) for each in people}
        marks = Marks.joined(sealed)
        for name, content in self._stored():
            report.look("database", name, content, marks)
        for path, content in canaries.files(self.at):
            report.look("file", path.name, content, marks)
        self.figures["marks that are sealed"] = len(marks.needles)
        self.problems += [f"{when}, sealed: {hit}" for hit in report.hits]

    def _come_late(self, person: Person) -> None:
        """Let end what runs, and let more come of one who was erased."""
        (self.at / "go").touch()
        self.api.mend()
        wait_until(lambda: self.daemon.rows(RUNNING) == [(0,)])
        self._send(person, person.body(person.reference))
        self._send(person, person.body(person.reference.replace("-", "_")) + b" ")
        self._send(person, person.body(person.reference, odd=True) + b"  ")
        self._send(person, person.body(person.pending, verified=False) + b" ")
        self._wait_until_quiet()
        [(event,)] = self.daemon.rows("SELECT min(id) FROM event WHERE lacks = 'erased'")
        self._command("replay", event, "--yes", codes=(0, 1))
        self._command("show", event, "--reveal")
        self._command("reconcile", "--since", "1d", "--store", codes=(0, 1))
        self._wait_until_quiet()

    def _prune(self, person: Person) -> None:
        """Let two years go by for one person."""
        with changing(self.daemon.place) as database:
            aged = "UPDATE event SET received_at_ms = received_at_ms - ? WHERE user_ref = ?"
            if not isinstance(self.daemon.place, Server):  # as premblyd does, whatever it changes
                database.execute("PRAGMA secure_delete = on")
            database.execute(aged, (2 * YEAR_MS, self._user_of(person)))
            database.execute("DELETE FROM sweep")
        # What is dead and holds a line, or waits for its next attempt, is kept until it is over.
        left = """SELECT delivery.id FROM delivery JOIN event ON event.id = event_id
            WHERE user_ref = ? AND (state = 'pending' OR (state = 'dead' AND holds_order))
            ORDER BY order_place DESC, delivery.id DESC"""
        for _ in range(50):
            found = self.daemon.rows(left, self._user_of(person))
            if not found:
                break
            for (delivery,) in found:
                self._command("cancel", "--delivery", delivery, codes=(0, 1))
        self._command("prune", "--yes")

    def _whole(self, person: Person) -> list[tuple[Any, ...]]:
        """Return what is known of a person."""
        events = "SELECT id, body, headers, token, session_id, reference, lacks FROM event"
        found = self.daemon.rows(f"{events} WHERE user_ref = ? ORDER BY id", self._user_of(person))
        ids = [row[0] for row in found]
        # What waits runs again after a kill, and has no error then.
        error = "CASE WHEN action <> 'waits' THEN last_error END"
        deliveries = f"SELECT event_id, action, {error} FROM delivery ORDER BY id"
        return found + [row for row in self.daemon.rows(deliveries) if row[0] in ids]

    def _user_of(self, person: Person) -> str:
        """Return what the database has as her user_ref."""
        if self.sealed != WITH_NAMES:
            return person.user_ref
        vault = Vault(DataKey.read(KEY))
        with closing(connect_read_only(self.daemon.place, vault)) as database:
            return database.look(pseudonyms.read).user(person.user_ref)

    def _stored(self) -> Iterator[tuple[str, bytes]]:
        place = self.daemon.place
        if isinstance(place, Server):
            yield from canaries.tables(place)
        else:
            for path, content in canaries.files(self.at):
                if path.name.startswith(place.name):
                    yield path.name, content

    def _look(self, when: str, *people: Person) -> None:
        """Look for everything of these people everywhere."""
        wait_until(lambda: self.daemon.rows(UNGONE) == [(0,)])
        report = Report()
        marks = Marks.joined({person.user_ref: person.marks() for person in people})
        of_log = {person.user_ref: person.marks().without("address") for person in people}
        for name, content in self._stored():
            report.look("database", name, content, marks)
        for path, content in canaries.files(self.at):
            kind = str(path.relative_to(self.at).parts[0])
            if path.name == "log":  # who sent it: Prembly, or whoever stands for it
                report.look("log", path.name, content, Marks.joined(of_log))
            elif not path.name.startswith("premblyd.db"):
                report.look("file" if kind != "tmp" else "temporary", kind, content, marks)
        if self.daemon.process.poll() is None:
            if (self.at / "go").exists():  # a hook that runs still has what it was given
                looking.at_processes(self.daemon, report, marks)
            self.figures["pages"] += looking.at_pages(self.daemon, report, marks)
        looking.at_commands(self.daemon, report, marks, people)
        self._command("backup", self.at / "copies", "--keep", 1)
        for copy in (self.at / "copies").iterdir():
            report.look("backup", copy.name, _opened(copy), marks)
        self.problems += [f"{when}: {hit}" for hit in report.hits]
        for kind, size in report.looked.items():
            self.figures[f"KiB looked through, {kind}"] += size >> 10


def main() -> None:
    asked = campaigns.arguments(__doc__, cycles=3, seed=campaigns.ANY, postgresql=0, sealed=CLEAR)
    problems: list[str] = []
    figures: Counter[str] = Counter()
    start = time.monotonic()
    with ExitStack() as cluster_opened:
        cluster = None
        if asked.postgresql:
            cluster = cluster_opened.enter_context(postgresql.cluster())
            cluster.start()
        for cycle in range(asked.cycles):
            with ExitStack() as opened:
                at = opened.enter_context(folder())
                place = postgresql.new_database(cluster) if cluster else None
                campaign = Campaign(
                    at, asked.seed + cycle, opened, place=place, sealed=asked.sealed
                )
                problems += campaign.run()
                figures.update(campaign.figures)
    print(f"{asked.cycles} cycles, seed {asked.seed}, {time.monotonic() - start:.0f} s")
    table({**figures, "hits and faults": len(problems)})
    campaigns.end(problems)


if __name__ == "__main__":
    main()
