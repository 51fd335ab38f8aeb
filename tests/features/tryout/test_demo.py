"""The demo, and what check says in words."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.configuration import configuration


def write(folder: Path, text: str) -> Path:
    path = folder / "premblyd.yaml"
    path.write_text(text)
    path.chmod(0o640)
    return path


def test_check_warns_and_goes_on(tmp_path: Path) -> None:
    actions = [{"name": "a", "response_codes": ["*"], "command": ["/nowhere/at-all"]}]
    settings = configuration(endpoint={"scheme": "public-key"}, actions=actions)
    path = write(tmp_path, json.dumps(settings))
    path.chmod(0o644)
    done = run("check", "--config", path)
    warnings = [line.removeprefix("warning: ") for line in done.err.splitlines()]
    assert warnings == json.loads(run("check", "--json", "--config", path).out)["warnings"]
    readable, scheme, command_line = warnings
    assert readable == f"{path} holds secrets and others can read it: chmod o-r {path}"
    assert "proves nothing about the body" in scheme
    assert command_line == "action a: /nowhere/at-all is not an executable here"
    assert done.code == 0


@pytest.mark.process
@pytest.mark.promise
def test_demo_stays_up_until_it_is_interrupted_and_leaves_nothing(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("premblyd"))  # not on this PATH
    environ = os.environ | {"PATH": "/usr/bin:/bin"}
    shown = ""
    with subprocess.Popen(
        [program, "demo"], stdout=subprocess.PIPE, text=True, env=environ
    ) as process:
        assert process.stdout
        for line in process.stdout:
            shown += line
            if found := re.search(r"export PREMBLYD_CONFIG=(\S+)", line):
                config = Path(found[1])
                break
        for line in process.stdout:  # the commands to try, as they can be pasted
            assert line.startswith(f"  {program} ")
            if line.endswith(" deliveries\n"):
                break
        assert run("send", "--sample", "pending", "--config", config).code == 0
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert not config.parent.exists()
    assert re.search(r'the first one again +200 .*"duplicate":true', shown)
    assert re.search(r"a wrong signature +401", shown)
    assert re.findall(r"activate-customer +(\w+) +(\d)", shown) == [("succeeded", "1")] * 2
    assert re.search(r"127\.0\.0\.1 +wrong signature", shown)
