"""Make the pictures of the console that README shows, of invented data.

    python -m tests.features.console.pictures [FOLDER]

FOLDER is docs/ unless named. Needs Chromium.
"""

import itertools
import random
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from premblyd.features.tryout import samples
from tests.support import rollups
from tests.support.chromium import WIDE, chromium
from tests.support.configuration import AT_ONCE, ONCE, shell
from tests.support.console import CONSOLE, signed_in
from tests.support.daemon import Premblyd

ROOT = Path(__file__).parents[3]
HOUR_MS = 3_600_000
BY_HOUR = (9, 6, 4, 3, 2, 2, 3, 6, 14, 27, 38, 44, 41, 36, 39, 43, 40, 34, 26, 21, 18, 15, 12)
# How often each sample comes, in an hour of a hundred.
SHARES = {"sdk": 62, "api": 14, "not-verified": 9, "not-found": 8, "pending": 5}
# Fails for the first two attempts of all.
CRM = """
n=$(wc -l <TRIED); echo >>TRIED
if [ "$n" -lt 2 ]; then echo "CRM: 503 Service Unavailable" >&2; exit 75; fi
echo "customer $PREMBLY_USER_REF activated"
"""


@contextmanager
def shown(folder: Path) -> Iterator[Premblyd]:
    """Run a daemon in `folder` that has had a day's webhooks."""
    (folder / "tried").touch()
    tries = CRM.replace("TRIED", str(folder / "tried"))
    actions = [
        shell("activate-customer", tries, "00", when="outcome == 'verified'", retry=AT_ONCE),
        {"name": "archive", "command": ["true"], "response_codes": ["00", "01"]},
        shell("page-operations", "exit 0", "02", "03"),
        shell("ask-compliance", "echo 'no route to host' >&2; exit 1", "07", retry=ONCE),
    ]
    with Premblyd(folder, actions=actions, console=CONSOLE) as daemon:
        daemon.start()
        for name in (*SHARES, "blocked", "wallet"):
            assert daemon.send(samples.sample(name)).status == 200
        daemon.wait_for_rows([(0,)], "SELECT count(*) FROM delivery WHERE due_at_ms IS NOT NULL")
        daemon.stop()
        _add_a_day(daemon.database)
        yield daemon.start()


def _add_a_day(database: Path) -> None:
    chance = random.Random(7)
    names = list(SHARES)
    with closing(sqlite3.connect(database)) as connection, connection:
        ((now_ms,),) = connection.execute("SELECT max(received_at_ms) FROM event").fetchall()
        for ago, count in zip(itertools.count(1), reversed(BY_HOUR), strict=False):
            for name in chance.choices(names, list(SHARES.values()), k=count):
                at_ms = now_ms - ago * HOUR_MS + chance.randrange(HOUR_MS)
                _copy_event(connection, names.index(name) + 1, at_ms)
        rollups.fill(connection)


def _copy_event(connection: sqlite3.Connection, event_id: int, at_ms: int) -> None:
    """Add an event as it would have come at another time, with what has succeeded of it."""
    one = "SELECT received_at_ms FROM event WHERE id = ?"
    ((was_ms,),) = connection.execute(one, (event_id,)).fetchall()
    moved = {"received_at_ms": str(at_ms), "key": "lower(hex(randomblob(16)))"}
    copy = _copy(connection, "event", event_id, moved)
    run = "SELECT id FROM delivery WHERE event_id = ? AND state = 'succeeded'"
    last = "SELECT max(id) FROM attempt WHERE delivery_id = ?"
    finished = {"finished_at_ms": f"finished_at_ms + {at_ms - was_ms}"}
    for (delivery_id,) in connection.execute(run, (event_id,)).fetchall():
        delivery = _copy(connection, "delivery", delivery_id, {"event_id": str(copy), **finished})
        ((attempt_id,),) = connection.execute(last, (delivery_id,)).fetchall()
        started = {"started_at_ms": f"started_at_ms + {at_ms - was_ms}"}
        moved = {"delivery_id": str(delivery), **started, **finished}
        _copy(connection, "attempt", attempt_id, moved)


def _copy(
    connection: sqlite3.Connection, table: str, row_id: int, changes: dict[str, str]
) -> int | None:
    named = connection.execute(f"SELECT name FROM pragma_table_info('{table}')")
    names = [name for (name,) in named if name != "id"]
    values = ", ".join(changes.get(name, name) for name in names)
    return connection.execute(
        f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table} WHERE id = ?",
        (row_id,),
    ).lastrowid


def take(folder: Path) -> list[Path]:
    """Put the pictures into `folder`, and return them."""
    pictures = []
    with tempfile.TemporaryDirectory() as name, shown(Path(name)) as daemon:
        own = signed_in(daemon)
        with chromium(own, folder) as browser, browser.window() as page:
            for about, path, height in (("overview", "/", 1080), ("event", "/events/1", 1560)):
                page.set_viewport_size({"width": WIDE, "height": height})
                page.goto(path)
                page.get_by_text("Live", exact=True).wait_for()
                pictures.append(folder / f"console-{about}.png")
                page.screenshot(path=pictures[-1])
    return pictures


if __name__ == "__main__":
    print(*take(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs"), sep="\n")
