"""Fixed seeds, so that no chance decides; `python -m tests.sim` tries others."""

import pytest

from tests.sim.model import Broken
from tests.sim.simulation import Simulation

SEEDS = {
    1: 0.5,
    2: 0.5,
    4: 0.5,
    9: 0.5,
    81: None,
}  # hours; None: as the seed says. 81 found a fault


@pytest.mark.parametrize(("seed", "hours"), SEEDS.items())
def test_all_promises_hold(seed: int, hours: float | None) -> None:
    simulation = Simulation(seed, hours=hours)
    try:
        simulation.run()
    except Broken as broken:
        pytest.fail(f"{simulation.told(broken)}\n\nseed {seed}: {broken.promise}", pytrace=False)
    assert simulation.counts["acknowledged"]


def test_a_seed_has_one_story() -> None:
    stories = []
    for _ in range(2):
        simulation = Simulation(5, hours=0.5)
        simulation.run()
        stories.append([(at_s, text) for at_s, text, _ in simulation.story])
    assert stories[0] == stories[1]
