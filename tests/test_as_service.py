"""What root's commands see of the service. That systemd takes it is shown in tests/systemd."""

import os
import subprocess
from pathlib import Path

import pytest

from premblyd.cli import as_service
from premblyd.cli.as_service import _options, _quoted

CANARY = 'canary "quoted" $HOME `id` \\ end'


def test_no_value_of_the_service_is_an_argument(tmp_path: Path) -> None:
    settings = {
        **{name: [] for name in as_service._PROPERTIES},
        "User": "premblyd",
        "Group": "premblyd",
        "ProtectHome": "yes",
        "Environment": [f"KEY={CANARY}"],
        "EnvironmentFiles": [["/etc/premblyd/env", False], ["/etc/premblyd/more", True]],
        "LoadCredentialEncrypted": [["sealed", "/etc/premblyd/sealed.cred"]],
        "SetCredential": [["plain", list(CANARY.encode())]],
    }
    options = list(_options(settings, tmp_path))
    assert "canary" not in "".join(options)
    assert options == [
        *("--property=User=premblyd", "--property=Group=premblyd", "--property=ProtectHome=yes"),
        f"--property=EnvironmentFile={tmp_path}/environment",
        "--property=EnvironmentFile=/etc/premblyd/env",
        "--property=EnvironmentFile=-/etc/premblyd/more",
        "--property=LoadCredentialEncrypted=sealed:/etc/premblyd/sealed.cred",
        f"--property=LoadCredential=plain:{tmp_path}/credential-0",
    ]
    assert (tmp_path / "credential-0").read_text() == CANARY


def test_a_variable_survives_its_quotes() -> None:
    # An environment file's double quotes are a shell's.
    line = _quoted(f"KEY={CANARY}")
    shell = f'{line}; printf %s "$KEY"'
    assert subprocess.run(["sh", "-c", shell], capture_output=True, text=True).stdout == CANARY


@pytest.mark.parametrize("path", ["/etc/premblyd/premblyd.yaml", "premblyd.yaml"])
def test_only_the_installed_program_looks_for_its_service(path: str) -> None:
    assert not as_service.is_for_service(Path(path))


def test_without_a_service_the_own_environment_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no systemctl
    assert as_service.environment_of_running() == os.environ
    assert as_service.run(["check"]) is None
