"""The kinds of hooks: one table, and nothing else knows them."""

from pathlib import Path

import pytest

from premblyd.config.hooks import KINDS
from premblyd.run.kinds import RUNNERS
from tests.support.daemon import Premblyd

BODY = b'{"response_code":"00","verification":{"reference":"ref-1"}}'
# In another process: here the kind would be there for all other tests.
ROOT = Path(__file__).parents[3]
ADDING_A_KIND = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.support.append_hook"


def test_every_kind_has_a_runner() -> None:
    assert {*KINDS.values()} == {*RUNNERS}


@pytest.mark.process
def test_a_new_kind_runs_with_nothing_but_a_model_a_runner_and_a_row(tmp_path: Path) -> None:
    note = {"name": "note", "response_codes": ["*"], "append": str(tmp_path / "notes")}
    with Premblyd(tmp_path, actions=[note]) as daemon:
        daemon.start(ADDING_A_KIND)
        assert daemon.send(BODY).status == 200
        daemon.wait_for_rows([("note", "succeeded")], "SELECT action, state FROM delivery")
        assert daemon.stop() == 0
    assert (tmp_path / "notes").read_text() == "ref-1\n"
