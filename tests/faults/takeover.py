"""How long it takes until another host runs what a dead one ran, with the settings by default.

    python -m tests.faults.takeover --times 5

A daemon is killed, stopped (SIGSTOP), or its network is cut, while it runs a hook that goes on.
"""

import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from premblyd.databases import Server
from tests.faults import campaigns
from tests.faults.daemon import folder, table
from tests.support import postgresql
from tests.support.daemon import Premblyd
from tests.support.hosts import Runs, hosts
from tests.support.proxy import Cable
from tests.support.waiting import wait_until

LIMIT_S = 15.0
Harm = Callable[[Premblyd, Cable], None]


HARMS: dict[str, Harm] = {
    "kill -9": lambda victim, _: victim.process.kill(),
    "SIGSTOP": lambda victim, _: victim.process.send_signal(signal.SIGSTOP),
    "network cut": lambda _, cable: cable.cut(),
}


def take_over(at: Path, cluster: postgresql.Cluster, harm: Harm) -> float:
    """Do harm to a daemon; return after how many seconds the other one runs its hook."""
    server = postgresql.new_database(cluster)
    name = server.url.partition("@/")[2].partition("?")[0]
    runs = Runs(at)
    (at / "far").mkdir()
    default: dict[str, Any] = {"actions": runs.actions, "hosts": {}}
    with Cable(cluster.folder / f".s.PGSQL.{cluster.port}") as cable:
        behind = Server(f"postgresql://{postgresql.SUPERUSER}@{cable.address}/{name}")
        with hosts(at / "far", "a", server=behind, **default) as (victim,):
            victim.send(b"{}")
            wait_until(runs.workers)
            with hosts(at, "b", server=server, **default):
                time.sleep(1)  # until it knows the other
                harm(victim, cable)
                start = time.monotonic()
                wait_until(lambda: len(runs.workers()) == 2)
                took_s = time.monotonic() - start
            cable.mend()
    return took_s


def main() -> None:
    arguments = campaigns.arguments(__doc__, times=5)
    figures: dict[str, object] = {}
    longest_s = 0.0
    with postgresql.cluster() as cluster:
        cluster.start()
        for name, harm in HARMS.items():
            took = []
            for _ in range(arguments.times):
                with folder() as at:
                    took.append(take_over(at, cluster, harm))
            longest_s = max(longest_s, *took)
            median_s = statistics.median(took)
            figures[name] = f"{len(took)} times, median {median_s:.1f} s, longest {max(took):.1f} s"
    table(figures)
    if longest_s > LIMIT_S:
        raise SystemExit(f"longer than {LIMIT_S:.0f} s")


if __name__ == "__main__":
    main()
