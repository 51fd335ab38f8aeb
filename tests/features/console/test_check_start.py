"""What `check` says of the console's address."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import json_of, run
from tests.support.configuration import configuration
from tests.support.daemon import Premblyd
from tests.support.ports import free_port

pytestmark = pytest.mark.sqlite  # of a server: tests/features/postgresql/test_cli_postgresql.py


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "premblyd.yaml"
    path.write_text(json.dumps(configuration(**changes)))
    path.chmod(0o640)
    return path


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return all that is in a folder, but for what SQLite makes beside a database to read it."""
    return {
        str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(("-wal", "-shm"))
    }


def obstacle(config: Path) -> str:
    """Return why `check` says that the daemon can't start, which it says everywhere."""
    before = files(config.parent)
    done, quiet = run("check", "--config", config), run("check", "--quiet", "--config", config)
    shown = json.loads(run("check", "--json", "--config", config).out)
    assert (done.code, quiet.code, shown["ok"]) == (78, 78, False)
    assert files(config.parent) == before
    line: str
    [line] = [each for each in shown["warnings"] if each.startswith("the daemon can't start: ")]
    assert quiet.err == f"{line}\n"
    assert f"warning: {line}\n" in done.err
    return line.removeprefix("the daemon can't start: ")


def test_a_port_that_another_program_has_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        config = write(tmp_path, listen=where)
        assert obstacle(config).startswith(f"Can't listen on {where}: Address already in use")
        config = write(tmp_path, console={"listen": where})
        done = run("check", "--config", config)
    assert done.code == 0, "webhooks are taken without a console"
    assert f"warning: the console can't start: Can't listen on {where}: " in done.err


@pytest.mark.process
def test_what_the_running_daemon_has_itself_is_no_fault(tmp_path: Path) -> None:
    ports = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    with Premblyd(tmp_path, listen=ports[0], console={"listen": ports[1]}) as daemon:
        daemon.start()
        daemon.config.chmod(0o640)
        assert json_of(daemon.config, "check")["warnings"] == []
        for changes in (
            {"listen": ports[1], "console": {"listen": ports[0]}},
            {"listen": ports[0].replace("127.0.0.1", "0.0.0.0")},
        ):
            daemon.configure(**changes)
            done = run("check", "--config", daemon.config)
            assert (done.code, "can't start" in done.err) == (0, False), done.err
            assert f"pid {daemon.process.pid}" in done.out
