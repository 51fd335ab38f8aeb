"""Messages say what to type as the person who reads them calls premblyd."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.commands import record


def run_as(started: Path, *arguments: str, path: str) -> str:
    """Start premblyd by this name, and return what it prints to standard error. (A process of its
    own: its name and PATH are what counts.)"""
    environ = os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([started, *arguments], env=environ, capture_output=True, text=True)
    return done.stderr


def installed(folder: Path) -> Path:
    """Return a `premblyd` in a virtual environment, as pip writes it."""
    program = folder / ".venv/bin/premblyd"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\nfrom premblyd.cli import main\nmain()\n")
    program.chmod(0o755)
    return program


def test_a_hint_names_the_program_as_it_was_called(tmp_path: Path) -> None:
    program, config = installed(tmp_path), record(tmp_path)
    arguments = ("--config", str(config), "show", "999")
    by_path = run_as(program, *arguments, path="/usr/bin:/bin")
    assert by_path == f"There is no event 999. `{program} events` lists them.\n"
    on_path = run_as(program, *arguments, path=f"{program.parent}:/usr/bin:/bin")
    assert on_path == "There is no event 999. `premblyd events` lists them.\n"
