"""python -m tests.sim: simulates by seeds, and tells the story of what breaks a promise.

python -m tests.sim --seed 17          replay a seed, to the letter
python -m tests.sim --hours 1000       simulate so many hours, from --first on
python -m tests.sim --hosts 3          with so many hosts on a PostgreSQL server
"""

import argparse
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable

from tests.sim.model import Broken
from tests.sim.simulation import Simulation


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.sim")
    options.add_argument("--seed", type=int, help="simulate this one")
    options.add_argument("--first", type=int, default=1, help="the first seed of many")
    options.add_argument("--hours", type=float, help="simulate so many hours in all")
    options.add_argument("--hosts", type=int, help="with so many hosts on PostgreSQL")
    options.add_argument("--seconds", type=float, help="for so many seconds of processor")
    options.add_argument("--story", action="store_true", help="tell all of it, whatever comes")
    given = options.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of texts have an order of their own
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])
    if given.hosts is None:
        return simulate(Simulation, given)
    from tests.sim.hosts import HostsSimulation, prepared_cluster  # not everywhere is PostgreSQL

    with prepared_cluster() as cluster:
        make = functools.partial(HostsSimulation, count=given.hosts, cluster=cluster)
        return simulate(make, given)


def simulate(make: Callable[[int], Simulation], given: argparse.Namespace) -> int:
    """Simulate seeds as the options say."""
    began, cpu = time.perf_counter(), time.process_time()
    seed = given.first if given.seed is None else given.seed
    hours, count = 0.0, 0
    totals: Counter[str] = Counter()
    while True:
        simulation = make(seed)
        try:
            simulation.run()
        except Broken as broken:
            spent_s = time.process_time() - cpu
            print(f"{simulation.told(broken)}\n\nafter {spent_s:.1f} s of processor")
            print(f"seed {seed}: {broken.promise}")
            return 1
        finally:
            if given.story:
                for at_s, text, _ in simulation.story:
                    print(f"{at_s:12.3f}  {text}")
        count, seed, hours = count + 1, seed + 1, hours + simulation.time.now_s / 3600
        totals += simulation.counts
        spent_s = time.process_time() - cpu
        is_last = given.seed is not None or (given.hours is None and given.seconds is None)
        if is_last or hours >= (given.hours or 1e18) or spent_s >= (given.seconds or 1e18):
            break
    cpu_s, took_s = time.process_time() - cpu, time.perf_counter() - began
    figures = ", ".join(f"{number:,} {name}" for name, number in sorted(totals.items()))
    print(
        f"{count} seeds, {hours:,.0f} hours in {took_s:.1f} s, {cpu_s:.1f} s of processor:"
        f" {hours / max(cpu_s, 1e-9):,.1f} hours a second of it; {figures}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
