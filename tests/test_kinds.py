"""The kinds of hooks: one table, and nothing else knows them."""

from pathlib import Path
from typing import Any

import pytest

from premblyd.config.hooks import KINDS
from premblyd.run.kinds import RUNNERS
from tests.support.commands import run_process
from tests.support.configuration import configuration
from tests.support.daemon import Premblyd
from tests.support.pages import ROOT

BODY = b'{"response_code":"00","verification":{"reference":"ref-1"}}'
# In another process: here the kind would be there for all other tests.
ADDING_A_KIND = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.support.append_hook"


def append(path: Path, **keys: Any) -> dict[str, Any]:
    return {"name": "note", "response_codes": ["*"], "append": str(path), **keys}


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
    printed = run_process("explain", body, "--config", file, before=ADDING_A_KIND).out
    assert f"\nnote\n  append ref-1 to {tmp_path}/notes\n" in printed
    file.write_text(str(configuration(actions=[append(tmp_path / "notes", shell="x", env="x")])))
    told = run_process("check", "--config", file, before=ADDING_A_KIND).err
    assert f"should have one of {', '.join(KINDS)} and append, not 2" in told
