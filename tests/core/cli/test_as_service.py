"""What root's commands see of the service. That systemd takes it is shown in tests/systemd."""

from pathlib import Path

import pytest

from premblyd.cli import as_service
from premblyd.cli.caller import AS_SERVICE, DEFAULT_CONFIG
from tests.support.rows import for_each

REPOSITORY = Path(__file__).parents[3]
CAT = """\
# /etc/systemd/system/premblyd.service
[Unit]
Description=the daemon
Wants=premblyd.socket
[Service]
Type=notify
ExecStartPre=+/usr/bin/flock \\
    true
# Not that:
ExecStart=/opt/premblyd/current/bin/premblyd serve
ExecSearchPath=/usr/bin
User=premblyd
SystemCallFilter=@system-service \\
# in between
  @chown
Restart=on-failure
[Install]
WantedBy=multi-user.target

# /etc/systemd/system/premblyd.service.d/override.conf
[Service]
ExecStart=
StandardOutput=append:/var/log/premblyd
ReadWritePaths=/srv/archive
"""


def test_what_a_process_of_the_service_may_do_is_taken_and_what_starts_it_is_not() -> None:
    assert list(as_service.sandbox(CAT)) == [
        "ExecSearchPath=/usr/bin",
        "User=premblyd",
        "SystemCallFilter=@system-service \\",
        "  @chown",
        "ReadWritePaths=/srv/archive",
    ]


def test_the_whole_sandbox_of_the_unit_is_taken() -> None:
    text = (REPOSITORY / "systemd/premblyd.service").read_text()
    of_sandbox = text.partition("# The sandbox.")[2].partition("[Install]")[0]
    lines = {line for line in of_sandbox.splitlines() if line[:1].isupper()}
    assert len(lines) > 25
    assert lines - set(as_service.sandbox(text)) == {"RemoveIPC=yes"}


@for_each("path", ["/etc/premblyd/premblyd.yaml", "premblyd.yaml"])
def test_only_the_installed_program_looks_for_its_service(path: str) -> None:
    assert not as_service.is_for_service(Path(path))


def machine(folder: Path, monkeypatch: pytest.MonkeyPatch, *, socket: str = "inactive") -> Path:
    """Have programs in the place of systemd's; return the file that says what was run by them."""
    monkeypatch.setattr(as_service, "RUNTIME_UNITS", folder)
    monkeypatch.setenv("PATH", str(folder))
    told = folder / "told"
    for name, does in {
        "systemctl": f"case $1 in show) echo loaded;; is-active) echo {socket};; esac",
        "systemd-run": f'echo "$@" >{told}',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    return told


@pytest.mark.process
def test_the_service_learns_who_runs_it_and_whether_systemd_has_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no systemctl
    assert as_service.run(["check"]) is None
    monkeypatch.setenv("SUDO_USER", "ada")
    for state in ("active", "inactive"):
        told = machine(tmp_path, monkeypatch, socket=state)
        monkeypatch.delenv(AS_SERVICE, raising=False)
        assert as_service.run(["check"]) == 0
        words = told.read_text().split()
        assert "--setenv=SUDO_USER=ada" in words  # for the record
        [mark] = [word for word in words if AS_SERVICE in word]
        monkeypatch.setenv(AS_SERVICE, mark.rpartition("=")[2])
        assert as_service.has_socket() == (state == "active")


def test_another_user_than_the_service_does_not_judge_what_it_may_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(as_service, "is_managed", lambda path: path == DEFAULT_CONFIG)
    for user, environ, judges in ((0, {}, True), (1000, {}, False), (990, {AS_SERVICE: "1"}, True)):
        monkeypatch.setattr("os.geteuid", lambda user=user: user)
        monkeypatch.setattr("os.environ", environ)
        assert as_service.may_judge(DEFAULT_CONFIG) == judges
        assert as_service.may_judge(Path("own.yaml"))
