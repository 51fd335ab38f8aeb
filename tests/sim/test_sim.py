"""A few fixed seeds, so that no chance decides: .ci/run has sixty, and `python -m tests.sim` tries
others."""

from collections.abc import Iterator

import pytest

from tests.sim.hosts import HostsSimulation, prepared_cluster
from tests.sim.model import Broken
from tests.sim.simulation import Simulation
from tests.support.postgresql import Cluster

SEEDS = {1: 0.5, 2: 0.5, 4: 0.5, 9: 0.5, 59: None}  # hours; None: as the seed says


@pytest.mark.parametrize(("seed", "hours"), SEEDS.items())
def test_all_promises_hold(seed: int, hours: float | None) -> None:
    keep(Simulation(seed, hours=hours))


def keep(simulation: Simulation) -> None:
    """Have all promises hold in a simulation."""
    try:
        simulation.run()
    except Broken as broken:
        pytest.fail(
            f"{simulation.told(broken)}\n\nseed {simulation.seed}: {broken.promise}", pytrace=False
        )
    assert simulation.counts["acknowledged"]


def test_a_seed_has_one_story() -> None:
    stories = []
    for _ in range(2):
        simulation = Simulation(5, hours=0.3)
        simulation.run()
        stories.append([(at_s, text) for at_s, text, _ in simulation.story])
    assert stories[0] == stories[1]


# Several hosts. The seed, and how many they are.
HOSTS = {1: 2, 2: 3, 3: 2, 7: 3}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with prepared_cluster() as cluster:
        yield cluster


@pytest.mark.postgresql
@pytest.mark.parametrize(("seed", "count"), HOSTS.items())
def test_all_promises_hold_on_several_hosts(seed: int, count: int, cluster: Cluster) -> None:
    keep(HostsSimulation(seed, count, cluster, hours=0.05))


@pytest.mark.postgresql
def test_a_seed_of_several_hosts_has_one_story(cluster: Cluster) -> None:
    stories = []
    for _ in range(2):
        simulation = HostsSimulation(5, 2, cluster, hours=0.05)
        simulation.run()
        stories.append([(at_s, text) for at_s, text, _ in simulation.story])
    assert stories[0] == stories[1]
