"""What several modules of these tests share."""

from pathlib import Path

import pytest

from premblyd.features.asking import log
from tests.support.prembly_api import PremblyApi
from tests.support.reconciling import Record


@pytest.fixture
def record(tmp_path: Path, api: PremblyApi, monkeypatch: pytest.MonkeyPatch) -> Record:
    """A record to reconcile, which asks again soon."""
    monkeypatch.setattr(log, "FIRST_WAIT_S", 0.01)
    return Record(tmp_path, api)
