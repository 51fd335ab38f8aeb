"""The short form of the campaign of `order`."""

from pathlib import Path

import pytest

from tests.faults.order import Campaign
from tests.support.hosts import new_server
from tests.support.needs import needs_machine


@pytest.mark.parametrize(
    ("engine", "hosts"),
    [("sqlite", 1), pytest.param("postgresql", 2, marks=pytest.mark.postgresql)],
)
def test_successes_are_in_the_order_of_receipt_through_kills(
    tmp_path: Path, engine: str, hosts: int
) -> None:
    with needs_machine():
        server = new_server() if engine == "postgresql" else None
    campaign = Campaign(tmp_path, server, seed=3, events=40, references=4, hosts=hosts, pause_s=0.5)
    assert campaign.run() == []
    assert campaign.figures["kills"] > 0
    assert campaign.figures["longest line of a reference"] > 5
