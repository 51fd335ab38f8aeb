"""The kinds of hooks: one table, and nothing else knows them."""

from pathlib import Path
from typing import Any

import pytest

from premblyd.config.hooks import KINDS
from premblyd.run.kinds import RUNNERS
from tests.support.commands import Ran, run_process
from tests.support.configuration import configuration
from tests.support.daemon import Premblyd
from tests.support.pages import ROOT

BODY = b'{"response_code":"00","verification":{"reference":"ref-1"}}'
# In another process: here the kind would be there for all other tests.
ADDING_A_KIND = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.support.append_hook"


def append(path: Path, **keys: Any) -> dict[str, Any]:
    return {"name": "note", "response_codes": ["*"], "append": str(path), **keys}


def premblyd(*arguments: object) -> Ran:
    """Run a command of a premblyd that has the new kind."""
    return run_process(*arguments, before=ADDING_A_KIND)


def test_every_kind_has_a_runner() -> None:
    assert list(KINDS.values()) == list(RUNNERS)


@pytest.mark.process
def test_a_new_kind_runs_with_nothing_but_a_model_a_runner_and_a_row(tmp_path: Path) -> None:
    with Premblyd(tmp_path, actions=[append(tmp_path / "notes")]) as daemon:
        daemon.start(ADDING_A_KIND)
        assert daemon.send(BODY).status == 200
        daemon.wait_for_rows([("note", "succeeded")], "SELECT action, state FROM delivery")
        assert daemon.stop() == 0
    assert (tmp_path / "notes").read_text() == "ref-1\n"


@pytest.mark.process
def test_a_new_kind_is_validated_and_explained_too(tmp_path: Path) -> None:
    file = tmp_path / "premblyd.yaml"
    file.write_text(str(configuration(actions=[append(tmp_path / "notes")])))
    body = tmp_path / "body"
    body.write_bytes(BODY)
    printed = premblyd("explain", body, "--config", file).out
    assert f"\nnote\n  append ref-1 to {tmp_path}/notes\n" in printed
    wrong = {
        "shell": f"should have one of {', '.join(KINDS)} and append, not 2",
        "env": "is for shell",
        "timeout": "should be a duration such as 500ms",
        "apend": "unknown key `apend`; did you mean `append`?",
    }
    actions = [append(tmp_path / "notes", **{"name": key, key: "x"}) for key in wrong]
    file.write_text(str(configuration(actions=actions)))
    told = premblyd("check", "--config", file).err
    assert [problem for problem in wrong.values() if problem not in told] == []
