"""What is kept is kept on every engine: these tests run on each, as the store's."""

import pytest

from premblyd.features.keeping import erasing, retention
from tests.support.engines import place

__all__ = ["place"]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is there who has to go first, and no hook begins late."""
    monkeypatch.setattr(erasing, "GAP_S", 0)
    monkeypatch.setattr(erasing, "NOTICED_S", 0)
    monkeypatch.setattr(retention, "GAP_RATIO", 0)
    monkeypatch.setattr(retention, "MIN_GAP_BESIDE_S", 0)
