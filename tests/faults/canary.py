"""The canary campaign: what marks a person is sought in every place, after she was erased and after
the periods of another were over.

    python -m tests.faults.canary [--cycles N] [--seed N] [--postgresql 1]

A daemon gets webhooks of three people: its hooks print them, a server answers them back, Prembly is
asked, operators look. One person is erased while her hooks run and wait, and Prembly is asked; one
is pruned; the third must lose nothing. Sought as bytes, base64, hex, UTF-16, JSON and URL: in the
database's tables, and in its file after a VACUUM once the daemon is stopped; in logs, temporary
files, processes, the console's pages and metrics. (Commands show what is in the database.)

What it does not claim: a hook that runs at the erasure keeps what it was given until it ends; who
sent a webhook stays in the log, by address. On a server it sees what clients see: the server's own
files keep more, see docs/personal-data.md. What a journal gets is the log, here a file.
"""

import random
import re
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil

from premblyd.features.postgresql.settings import Server
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.times import DAY_MS
from tests.faults import campaigns
from tests.faults.daemon import folder, table
from tests.faults.people import Person
from tests.support import canaries, postgresql, prembly_api
from tests.support.canaries import Marks, Report
from tests.support.commands import Ran, run
from tests.support.configuration import ONCE, shell
from tests.support.console import signed_in
from tests.support.daemon import Premblyd
from tests.support.database import changing
from tests.support.http_server import Handler, serving
from tests.support.prembly_api import PremblyApi, Shape
from tests.support.waiting import wait_until

YEAR_MS = 366 * DAY_MS
OPEN = "SELECT count(*) FROM delivery WHERE state = 'running' AND action <> 'waits'"
UNTRIED = """
SELECT count(*) FROM delivery WHERE state = 'pending' AND attempt_count = 0
AND held_by IS NULL AND action <> 'waits'
"""
FIRST = "SELECT min(id) FROM event WHERE user_ref = ?"
RETENTION = {"body": "90d", "identity": "1y", "rejections": "90d"}
PAGES = 100  # of the console, at most
LINK = re.compile(r'(?:href|src|action)="(/[^"#]*)')
RUNNING = "SELECT count(*) FROM delivery WHERE state = 'running'"


class Campaign:
    """One daemon, three people, and what is found of them."""

    def __init__(
        self, at: Path, seed: int, opened: ExitStack, *, place: DatabaseAddress | None = None
    ) -> None:
        self.rng = random.Random(seed)
        self.at = at
        self.figures: Counter[str] = Counter()
        self.problems: list[str] = []
        self.api = opened.enter_context(prembly_api.prembly_api())
        url = opened.enter_context(serving(echo)).url
        self.daemon = opened.enter_context(Premblyd(at, place=place, **settings(at, self.api, url)))
        names = ("erased", "pruned", "kept")
        self.erased, self.pruned, self.kept = (Person(self.rng, name) for name in names)

    def run(self) -> list[str]:
        """Run it; return what was found that should not be there, and what is missing."""
        (self.at / "tmp").mkdir()
        self._start()
        for person in (self.erased, self.pruned, self.kept):
            self._receive(person)
        for person in (self.erased, self.pruned, self.kept):
            self._operate(person)
        whole = self._whole(self.kept)
        self._ask(self.erased)
        self._expect_found()
        self._command("person", "erase", "--user-ref", self.erased.user_ref, "--yes")
        self._look("after the erasure", self.erased)
        self._come_late(self.erased)
        self._look("after what came late", self.erased)
        self._prune(self.pruned)
        self._look("after the pruning", self.erased, self.pruned)
        if self.daemon.stop() != 0:
            self.problems.append("it did not stop cleanly")
        self._look("after the stop", self.erased, self.pruned)
        self._start()
        self._wait_until_quiet()
        self._look("after the next start", self.erased, self.pruned)
        if self._whole(self.kept) != whole:
            self.problems.append("the third person has lost something")
        return self.problems

    def _start(self) -> None:
        places = dict.fromkeys(("TMPDIR", "SQLITE_TMPDIR"), str(self.at / "tmp"))
        if isinstance(self.daemon.place, Server):  # where others find the daemon then
            places = {}
        self.daemon.start("", (), (), True, **places)

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
        [(event,)] = self.daemon.rows(FIRST, person.user_ref)
        self._command("show", event, "--reveal")
        self._command("replay", event, "--action", "prints", "--yes")
        reason = ("--reason", f"{person.texts['reason']} of {person.user_ref}")
        self._command("person", "hold", "--user-ref", person.user_ref, *reason)
        self._command("person", "hold", "--reference", person.reference, *reason)
        for (number,) in self.daemon.rows("SELECT id FROM hold WHERE ended_at_ms IS NULL"):
            self._command("person", "release", number)
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
        made |= {name for name in marks.needles if "bytes at" in name or "hash of" in name}
        if missing := marks.needles.keys() - found - made - {"reason"}:
            self.problems.append(f"nothing was there to erase: {sorted(missing)}")

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
        [(event,)] = self.daemon.rows("SELECT min(id) FROM event WHERE removed_parts = 'erased'")
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
            database.execute(aged, (2 * YEAR_MS, person.user_ref))
            database.execute("DELETE FROM sweep")
        # What is dead and holds a line, or waits for its next attempt, is kept until it is over.
        left = """SELECT delivery.id FROM delivery JOIN event ON event.id = event_id
            LEFT JOIN ordered ON delivery_id = delivery.id
            WHERE user_ref = ? AND (state = 'pending' OR (state = 'dead' AND blocks))
            ORDER BY place DESC, delivery.id DESC"""
        for _ in range(50):
            found = self.daemon.rows(left, person.user_ref)
            if not found:
                break
            for (delivery,) in found:
                self._command("cancel", "--delivery", delivery, codes=(0, 1))
        self._command("record", "prune", "--yes")

    def _whole(self, person: Person) -> list[tuple[Any, ...]]:
        """Return what is known of a person."""
        events = "SELECT id, body, headers, token, session_id, reference, removed_parts FROM event"
        found = self.daemon.rows(f"{events} WHERE user_ref = ? ORDER BY id", person.user_ref)
        ids = [row[0] for row in found]
        # What waits runs again after a kill, and has no error then.
        error = "CASE WHEN action <> 'waits' THEN last_error END"
        deliveries = f"SELECT event_id, action, {error} FROM delivery ORDER BY id"
        return found + [row for row in self.daemon.rows(deliveries) if row[0] in ids]

    def _stored(self) -> Iterator[tuple[str, bytes]]:
        """Yield the tables; of a stopped daemon the file too, once SQLite has written it anew."""
        place = self.daemon.place
        yield from canaries.tables(place)
        if isinstance(place, Path) and self.daemon.process.poll() is not None:
            with closing(sqlite3.connect(place)) as connection:
                connection.execute("VACUUM")
            yield place.name, place.read_bytes()

    def _look(self, when: str, *people: Person) -> None:
        """Look for everything of these people everywhere."""
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
                own = psutil.Process(self.daemon.process.pid)
                for process in (own, *own.children(recursive=True)):
                    for name, content in canaries.of_process(process.pid):
                        report.look("process", name, content, marks)
            self._look_at_pages(report, marks)
        self.problems += [f"{when}: {hit}" for hit in report.hits]
        for kind, size in report.looked.items():
            self.figures[f"KiB looked through, {kind}"] += size >> 10

    def _look_at_pages(self, report: Report, marks: Marks) -> None:
        """Look at the console's pages, as far as they lead, and the metrics."""
        browser = signed_in(self.daemon)
        waiting, seen = deque(["/", "/metrics"]), {"/", "/metrics"}
        while waiting and len(seen) < PAGES:
            path = waiting.popleft()
            page = browser.get(path)
            report.look("page", path, page.body, marks)
            for found in LINK.findall(page.body.decode(errors="replace")):
                link = found.replace("&amp;", "&")
                if link not in seen and not link.startswith(("/sign", "/static")):
                    seen.add(link)
                    waiting.append(link)
        self.figures["pages"] += len(seen)


def settings(at: Path, api: PremblyApi, url: str) -> dict[str, Any]:
    """Return a configuration with every kind of action."""
    prints = "cat; env; echo $PREMBLY_REFERENCE $PREMBLY_USER_REF >&2"
    waits = f"while test ! -e {at}/go; do sleep 0.02; done; {prints}"
    again = {"attempts": 5, "first_delay": "1h"}
    holds = {"by": "reference", "then": "wait"}
    return {
        "prembly": {"url": api.url, "api_key": prembly_api.KEY, "rate": 200},
        "pending": {"ask": ["50ms"], "give_up": "1h"},
        "retention": RETENTION,
        "console": {"listen": "127.0.0.1:0"},
        "log": {"format": "json", "level": "debug"},
        "actions": [
            shell("prints", prints, retry=ONCE),
            shell("waits", waits, concurrency=40, timeout="5m"),
            shell("later", f"{prints}; exit 1", retry=again),
            shell("once", prints, once="reference"),
            shell("line", f"{prints}; exit 3", order=holds, retry=ONCE),
            shell("confirmed", prints, confirm=True, retry=ONCE),
            shell("told", prints, erased="run", types=["*"], retry=ONCE),
            {"name": "echoes", "response_codes": ["*"], "http": {"url": url}, "retry": ONCE},
        ],
    }


def slow(handler: Any) -> None:
    """Answer when told to."""
    handler.server.api.released.wait()
    handler.reply_bytes(handler.own_answer())


def echo(handler: Handler) -> None:
    """Answer what was sent, headers too, as an error."""
    _, headers, body = handler.server.requests[-1]
    handler.reply(500, str(headers).encode() + body)


def main() -> None:
    asked = campaigns.arguments(__doc__, cycles=3, seed=campaigns.ANY, postgresql=0)
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
                campaign = Campaign(at, asked.seed + cycle, opened, place=place)
                problems += campaign.run()
                figures.update(campaign.figures)
    print(f"{asked.cycles} cycles, seed {asked.seed}, {time.monotonic() - start:.0f} s")
    table({**figures, "hits and faults": len(problems)})
    campaigns.end(problems)


if __name__ == "__main__":
    main()
