"""What root's commands that a feature has see of the service."""

from pathlib import Path
from typing import IO, Any

import pytest

from premblyd.cli import as_service
from tests.support.commands import run
from tests.support.rows import for_each


@for_each(
    ("typed", "passed_on"),
    [
        ("check --quiet --json", "check --quiet --json"),
        ("try crm FILE --json", "try --json -- crm -"),
        ("try crm --key live FILE", "try --key=live -- crm -"),
        ("reconcile FILE --json --store", "reconcile --store --json -- -"),
    ],
)
def test_root_runs_a_command_as_the_service_with_its_options_and_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, passed_on: str
) -> None:
    (tmp_path / "file").write_text("{}")
    ran: list[Any] = []

    def as_the_service(arguments: list[str], stdin: IO[bytes] | None, **_: bool) -> int:
        ran.append((" ".join(arguments), stdin and stdin.read()))
        return 3

    monkeypatch.setattr(as_service, "is_for_service", lambda _: True)
    monkeypatch.setattr(as_service, "run", as_the_service)
    assert run(*typed.replace("FILE", f"{tmp_path}/file").split()).code == 3
    assert ran == [(passed_on, b"{}" if "FILE" in typed else None)]
