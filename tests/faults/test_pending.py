"""The campaign of what is pending, in its short form; the long one is
`python -m tests.faults.pending`."""

from pathlib import Path

from tests.faults.pending import Campaign
from tests.support import prembly_api


def test_kills_while_prembly_is_asked_lose_nothing_and_store_nothing_twice(tmp_path: Path) -> None:
    with prembly_api.prembly_api() as api:
        campaign = Campaign(tmp_path, api, seed=7)
        assert campaign.run(3) == []
    assert campaign.figures["answers stored"], "nothing was settled by asking"
    assert campaign.figures["settled by a webhook"], "nothing was settled by a webhook"
