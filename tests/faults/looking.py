"""Where the canary campaign looks for marks of a daemon that runs: its processes, its pages, and
what commands print."""

import re
from collections import deque
from collections.abc import Sequence

import psutil

from tests.faults.people import Person
from tests.support import canaries
from tests.support.canaries import Marks, Report
from tests.support.commands import run
from tests.support.console import signed_in
from tests.support.daemon import Premblyd

PAGES = 100  # of the console, at most
LINK = re.compile(r'(?:href|src|action)="(/[^"#]*)')


def at_processes(daemon: Premblyd, report: Report, marks: Marks) -> None:
    """Look at what the kernel shows of the daemon and its hooks."""
    own = psutil.Process(daemon.process.pid)
    for process in (own, *own.children(recursive=True)):
        for name, content in canaries.of_process(process.pid):
            report.look("process", name, content, marks)


def at_pages(daemon: Premblyd, report: Report, marks: Marks) -> int:
    """Look at the console's pages and the metrics; return how many pages there were."""
    browser = signed_in(daemon)
    waiting, seen = deque(["/", "/metrics"]), {"/", "/metrics"}
    while waiting and len(seen) < PAGES:
        path = waiting.popleft()
        page = browser.get(path)
        report.look("page", path, page.body, marks)
        for found in LINK.findall(page.body.decode(errors="replace")):
            link = found.replace("&amp;", "&")
            if link not in seen and not link.startswith(("/sign", "/static", "/live")):
                seen.add(link)
                waiting.append(link)
    return len(seen)


def at_commands(daemon: Premblyd, report: Report, marks: Marks, people: Sequence[Person]) -> None:
    """Look at what commands print."""
    events = daemon.rows("SELECT id FROM event ORDER BY id")
    for words in (
        ("events", "--json"),
        ("deliveries", "--json"),
        ("pending", "--json"),
        ("hold", "--list", "--json"),
        ("closed", "--list", "--json"),
        ("erase", "--list", "--json"),
        ("stats", "--since", "366d", "--json"),
        ("prune", "--dry-run", "--json"),
        ("status",),
        ("check",),
        *(("events", "--reference", person.reference) for person in people),
        *(("show", event, "--json") for (event,) in events),
    ):
        done = run(*words, "--config", daemon.config)
        if done.code == 2 and words[0] != "status":
            report.hits.append(f"command {words[0]} was refused: {done.err}")
        report.look("command", str(words[0]), (done.out + done.err).encode(), marks)
