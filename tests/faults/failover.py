"""The failover campaign: kill -9 of a PostgreSQL primary under load, again and again.

    python -m tests.faults.failover --cycles 20 [--seed N]

A primary and a synchronous standby, with real fsync. Clients send signed webhooks, hooks run, as in
the crash campaign. In each cycle all processes of the primary are killed at a random moment and the
standby is promoted; a new standby is made in the old primary's place. The daemon is left alone: its
URL names both hosts. After each cycle and at the end the promises are checked.
"""

import contextlib
import shutil
import subprocess
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from premblyd.features.postgresql.settings import Server
from tests.faults import campaigns
from tests.faults.crash import Campaign
from tests.faults.daemon import folder
from tests.support.postgresql import SUPERUSER, Cluster
from tests.support.waiting import wait_until

DATABASE = "premblyd"
# Every commit waits until another server has it on its disk too: also on the promoted one, which
# commits nothing before it has a standby of its own.
SYNCHRONOUS = {"synchronous_standby_names": "*", "wal_sender_timeout": "5s"}
_STANDBYS = "SELECT count(*) FROM pg_stat_replication"
_IN_SYNC = f"{_STANDBYS} WHERE sync_state = 'sync'"


class Pair:
    """A primary and its standby, synchronous or not, which change places."""

    def __init__(self, at: Path, *, is_synchronous: bool = True) -> None:
        self._is_synchronous = is_synchronous
        self._primary, self._standby = Cluster(at / "one"), Cluster(at / "two")
        self.place = Server(
            f"postgresql://{SUPERUSER}@/{DATABASE}?host={at / 'one'},{at / 'two'}"
            "&target_session_attrs=read-write"
        )

    def start(self) -> None:
        """Make both, with an empty database."""
        self._primary.create()
        self._primary.start()
        with self._primary.connect() as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        if self._is_synchronous:
            self._primary.configure(**SYNCHRONOUS)
        self._join()
        self._primary.reload()
        self._wait_for_sync()

    def fail_over(self) -> None:
        """Kill the primary, and promote the standby."""
        self._primary.kill()
        self._primary, self._standby = self._standby, self._primary
        self._primary.promote()

    def leave_standby_behind(self) -> None:
        """Let the standby get nothing more, once it has all that there is."""
        with self._primary.connect() as primary, self._standby.connect() as standby:
            (newest,) = primary.execute("SELECT pg_current_wal_lsn()").fetchone() or (None,)
            reached = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            wait_until(lambda: standby.execute(reached, [newest]).fetchone() == (True,))
            standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
            standby.execute("SELECT pg_reload_conf()")
            wait_until(lambda: primary.execute(_STANDBYS).fetchone() == (0,))

    def rebuild(self) -> None:
        """Make a new standby where the killed primary was."""
        self._join()
        self._wait_for_sync()

    def stop(self) -> None:
        for cluster in (self._standby, self._primary):
            with contextlib.suppress(subprocess.CalledProcessError):
                cluster.stop("immediate")

    def _join(self) -> None:
        self._standby.follow(self._primary)
        self._standby.start()

    def _wait_for_sync(self) -> None:
        with self._primary.connect() as connection:
            sql = _IN_SYNC if self._is_synchronous else _STANDBYS
            wait_until(lambda: connection.execute(sql).fetchone() == (1,))


@contextlib.contextmanager
def pair(*, is_synchronous: bool = True) -> Iterator[Pair]:
    """Give two servers at work, in a folder that a plain user may enter."""
    at = Path(tempfile.mkdtemp(prefix="premblyd-failover-"))
    at.chmod(0o755)
    own = Pair(at, is_synchronous=is_synchronous)
    try:
        own.start()
        yield own
    finally:
        own.stop()
        shutil.rmtree(at, ignore_errors=True)


class FailoverCampaign(Campaign):
    """The crash campaign, whose victim is the daemon's database instead of the daemon."""

    def __init__(self, at: Path, seed: int, servers: Pair, longest_s: float = 2.0) -> None:
        super().__init__(at, seed, longest_s, servers.place)
        self._servers = servers
        self.outages_s: list[float] = []

    def harm(self) -> None:
        """Fail over at a random moment, and wait until a webhook is answered 200 again."""
        time.sleep(self.rng.uniform(0.1, self.longest_s))
        began = time.monotonic()
        self._servers.fail_over()
        self.figures["failovers"] += 1
        before = self.book.answers[200]
        self._servers.rebuild()
        wait_until(lambda: self.book.answers[200] > before)
        self.outages_s.append(time.monotonic() - began)


def main() -> None:
    def make(opened: ExitStack, asked: Namespace) -> FailoverCampaign:
        at, servers = opened.enter_context(folder()), opened.enter_context(pair())
        return FailoverCampaign(at, asked.seed, servers)

    def outages(campaign: FailoverCampaign) -> dict[str, object]:
        outages = sorted(campaign.outages_s)
        return {
            "longest outage, s": f"{outages[-1]:.1f}",
            "median outage, s": f"{outages[len(outages) // 2]:.1f}",
        }

    campaigns.main(__doc__, make, cycles=20, say_every=5, more=outages)


if __name__ == "__main__":
    main()
