"""Messages say what to type as the person who reads them calls premblyd."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from premblyd.cli import caller, main
from tests.support.commands import record, run
from tests.support.rows import for_each

USUAL = str(caller.DEFAULT_CONFIG)


def run_as(started: Path, *arguments: str, path: str, config: Path) -> str:
    """Start premblyd by this name, and return what it prints to standard error. (A process of its
    own: its name and PATH are what counts.)"""
    environ = os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    environ["PREMBLYD_CONFIG"] = str(config)
    return subprocess.run([started, *arguments], env=environ, capture_output=True, text=True).stderr


def installed(folder: Path) -> Path:
    """Return a `premblyd` in a virtual environment, as pip writes it."""
    program = folder / ".venv/bin/premblyd"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\nfrom premblyd.cli import main\nmain()\n")
    program.chmod(0o755)
    return program


@pytest.mark.process
def test_a_hint_names_the_program_as_it_was_called(tmp_path: Path) -> None:
    program, config = installed(tmp_path), record(tmp_path)
    by_path = run_as(program, "show", "999", path="/usr/bin:/bin", config=config)
    assert by_path == f"There is no event 999. `{program} events` lists them.\n"
    on_path = run_as(program, "show", "999", path=f"{program.parent}:/usr/bin:/bin", config=config)
    assert on_path == "There is no event 999. `premblyd events` lists them.\n"


def test_a_hint_names_the_configuration_that_its_command_was_given(tmp_path: Path) -> None:
    config = record(tmp_path / "my webhooks")
    for arguments in (("--config", config, "show", "999"), ("show", "999", "--config", config)):
        told = run(*arguments, PREMBLYD_CONFIG="").err
        assert told == f"There is no event 999. `premblyd --config '{config}' events` lists them.\n"
        typed = shlex.split(told.split("`")[1])[1:]
        assert run(*typed, PREMBLYD_CONFIG="").code == 0
    by_variable = run("show", "999", PREMBLYD_CONFIG=str(config)).err
    assert by_variable == "There is no event 999. `premblyd events` lists them.\n"


@for_each(
    ("command", "config", "variable", "typed"),
    [
        ("premblyd events", "a b.yaml", "", "premblyd --config 'a b.yaml' events"),
        ("premblyd events", USUAL, "", "premblyd events"),
        ("premblyd events", USUAL, "my.yaml", f"premblyd --config {USUAL} events"),
        # sudo drops the variable.
        ("sudo premblyd status", "my.yaml", "my.yaml", "sudo premblyd --config my.yaml status"),
        ("sudo -u x premblyd check", "my.yaml", "", "sudo -u x premblyd --config my.yaml check"),
        # They go by none.
        ("premblyd init", "my.yaml", "", "premblyd init"),
        ("sudo systemctl restart premblyd", "my.yaml", "", "sudo systemctl restart premblyd"),
    ],
)
def test_a_command_names_the_configuration_only_where_it_must(
    command: str, config: str, variable: str, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREMBLYD_CONFIG", variable)
    with click.Context(main) as context:
        caller.go_by(context, Path(config))
        assert caller.command_as_called(command) == typed
        assert caller.as_called(f"Type `{command}`.") == f"Type `{typed}`."
