"""The kinds of hooks: one table, and nothing else knows them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from premblyd.config.hooks import KINDS
from premblyd.run.kinds import RUNNERS
from tests.support.configuration import configuration
from tests.support.daemon import Premblyd
from tests.support.pages import ROOT

BODY = b'{"response_code":"00","verification":{"reference":"ref-1"}}'
# In another process: here the kind would be there for all other tests.
ADDING_A_KIND = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.support.append_hook"


def append(path: Path, **keys: Any) -> dict[str, Any]:
    return {"name": "note", "response_codes": ["*"], "append": str(path), **keys}


def premblyd(*arguments: str, stdin: bytes = b"") -> tuple[str, str]:
    """Run a command of a premblyd that has the new kind."""
    code = f"{ADDING_A_KIND}\nfrom premblyd.cli import main\nmain()"
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, input=stdin, capture_output=True)
    return ended.stdout.decode(), ended.stderr.decode()


def test_every_kind_has_a_runner() -> None:
    assert list(KINDS.values()) == list(RUNNERS)


def test_a_new_kind_runs_with_nothing_but_a_model_a_runner_and_a_row(tmp_path: Path) -> None:
    with Premblyd(tmp_path, actions=[append(tmp_path / "notes")]) as daemon:
        daemon.start(ADDING_A_KIND)
        assert daemon.send(BODY).status == 200
        daemon.wait_for_rows([("note", "succeeded")], "SELECT action, state FROM delivery")
        assert daemon.stop() == 0
    assert (tmp_path / "notes").read_text() == "ref-1\n"


def test_a_new_kind_is_validated_and_explained_too(tmp_path: Path) -> None:
    file = tmp_path / "premblyd.yaml"
    file.write_text(str(configuration(actions=[append(tmp_path / "notes")])))
    printed, _ = premblyd("explain", "-", "--config", str(file), stdin=BODY)
    assert f"\nnote\n  append ref-1 to {tmp_path}/notes\n" in printed
    wrong = {
        "shell": f"should have one of {', '.join(KINDS)} and append, not 2",
        "env": "is for shell",
        "timeout": "should be a duration such as 500ms",
        "apend": "unknown key `apend`; did you mean `append`?",
    }
    actions = [append(tmp_path / "notes", **{"name": key, key: "x"}) for key in wrong]
    file.write_text(str(configuration(actions=actions)))
    _, told = premblyd("check", "--config", str(file))
    assert [problem for problem in wrong.values() if problem not in told] == []
