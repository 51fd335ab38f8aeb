"""What every command has in common; serve's refusals, check, init and demo."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from premblyd import __version__
from premblyd.cli import COMMANDS
from tests.support.commands import Ran, record, run, run_process
from tests.support.configuration import configuration, shell
from tests.support.rows import for_each
from tests.support.webhooks import SECRET_PATH

WRONG = """\
listen: nowhere
databse: sqlite:///p.db
endpoints:
  - {name: a, path: /a, keys: {live: {file: gone}}}
actions:
  - {name: x, response_codes: ["00"]}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "premblyd.yaml"
    path.write_text(text)
    path.chmod(0o640)
    return path


def test_the_help_of_everything_is_plain_text() -> None:
    listed = run("--help").out
    for name, command in COMMANDS.items():
        words = name.split()
        assert f"  {words[0]} " in listed
        text = run(*words, "-h").out
        assert re.search(rf"Usage: .* {name} ", text)
        assert command.summary in text
    assert run("--version").out.split()[-1] == __version__


@pytest.mark.process
def test_a_command_that_crashes_leaves_nothing_of_its_memory() -> None:
    """What it starts inherits that."""
    script = """
import resource, subprocess
from premblyd.cli import main
_, hard = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
main(["--help"], standalone_mode=False)
subprocess.run(["sh", "-c", "ulimit -c"], check=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "0"


def test_a_wrong_use_ends_with_2() -> None:
    for arguments, words in (
        (["events", "--outcome", "good"], "Error: "),
        (["fly"], "No such command 'fly'.\n"),
        (["replay", "--nonsense"], "--nonsense"),
    ):
        done = run(*arguments)
        assert (done.code, done.out, words in done.err) == (2, "", True), done.err


def test_the_configuration_is_found_by_option_variable_or_place(tmp_path: Path) -> None:
    good, bad = record(tmp_path), tmp_path / "bad.yaml"
    bad.write_text("[]")
    everywhere = (
        run("--config", good, "events", "--json"),
        run("events", "--json", "--config", good),
        run("events", "--json", PREMBLYD_CONFIG=str(good)),
        run("--config", good, "events", "--json", PREMBLYD_CONFIG=str(bad)),
        run("--config", bad, "events", "--json", "--config", good),
    )
    assert {done.code for done in everywhere} == {0}
    assert len({done.out for done in everywhere}) == 1
    default = run("check")
    assert (default.code, default.out) == (78, "")
    assert default.err.startswith("/etc/premblyd/premblyd.yaml:1:1: there is no such file")


@pytest.mark.process
@for_each("name", ["check", "serve", "events", "deliveries"])
def test_a_bad_configuration_ends_every_command_with_78(tmp_path: Path, name: str) -> None:
    execute = run_process if name == "serve" else run
    done = execute(name, "--config", write(tmp_path, WRONG))
    assert (done.code, done.out) == (78, "")
    assert len(done.err.splitlines()) >= 3


def test_check_lists_every_problem_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, WRONG)
    done = run("check", "--config", path)
    places = [line.removeprefix(f"{path}:").split(": ")[0] for line in done.err.splitlines()]
    assert (done.code, places) == (78, ["1:1", "1:9", "2:1", "4:38", "6:5"])
    assert "unknown key `databse`; did you mean `database`?" in done.err
    exact = json.loads(run("check", "--json", "--config", path).out)
    line = "{file}:{line}:{column}: {message}"
    assert [line.format_map(each) for each in exact["problems"]] == done.err.splitlines()
    assert exact["ok"] is False


def test_check_shows_which_actions_run_for_which_code(tmp_path: Path) -> None:
    actions = [
        shell("crm", "true", "00", when="outcome == 'verified'"),
        shell("page", "true", "02", "default"),
        shell("archive", "true"),
    ]
    settings = configuration(actions=actions, endpoint={"path": SECRET_PATH})
    path = write(tmp_path, json.dumps(settings))
    checked = json.loads(run("check", "--json", "--config", path).out)
    assert (checked["ok"], checked["warnings"]) == (True, [])
    assert checked["actions_by_response_code"] == {
        "00": ["crm (when outcome == 'verified')", "archive"],
        "02": ["page", "archive"],
        "any other": ["page", "archive"],
        "missing": ["archive"],
    }
    done = run("check", "--config", path)
    assert (done.code, done.err) == (0, "")
    assert f"There is no database at {tmp_path}/premblyd.db: a new one would be made." in done.out
    assert re.search(r"^00 +crm \(when outcome == 'verified'\), archive", done.out, re.MULTILINE)


def test_init_writes_a_file_for_owner_and_group_and_never_overwrites_one(tmp_path: Path) -> None:
    path = tmp_path / "a new one" / "premblyd.yaml"
    done = run("init", path.parent)
    assert (done.code, done.err) == (0, "")
    assert f"premblyd check --config '{path}'" in done.out
    assert f"into the file {path.parent}/credentials/prembly-live-key\n" in done.out
    assert done.out.endswith(f"export PREMBLYD_CONFIG='{path}'\n")
    assert path.stat().st_mode & 0o777 == 0o640
    path.write_text("mine")
    assert run("init", path.parent) == Ran(1, "", f"{path} already exists; it was not changed.\n")
    assert path.read_text() == "mine"
    assert run("init", path) == Ran(1, "", f"{path} is a file, not a folder.\n")
    done = run("init", path / "folder")
    assert (done.code, done.err[:13]) == (1, "Can't write /")
