"""A row in the table of troubles is all that a new trouble needs: everything that tells people of
trouble tells it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from premblyd.record import troubles
from premblyd.record.told import Item, Severity, Situation, Target, Trouble
from tests.support.commands import run
from tests.support.console import CONSOLE, signed_in
from tests.support.daemon import Premblyd
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

HERE = "tests.features.watch.test_trouble_row"
# What whoever adds a trouble writes, done in the daemon before it starts.
ADDED = f"""
from premblyd.features.watch import alerts as watch
from premblyd import record
from premblyd.record import troubles
from {HERE} import ROW
watch.LOOK_EVERY_S = 0.05
record.TROUBLES += ((ROW.kind, "the moon is full"),)
troubles._OF_CORE += (ROW,)
"""


def _moon(_: Situation) -> Iterator[Item]:
    yield Item(
        severity=Severity.URGENT,
        text="The moon is full.",
        remedy="Wait until it wanes.",
        target=Target(page="deliveries", state="pending", action="crm"),
    )
    yield Item(severity=Severity.NOTICE, text="It shines.", about="bright", count=2)


ROW = Trouble(
    kind="moon",
    ask=_moon,
    reminds=True,
)


def test_a_row_is_all_that_a_trouble_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process, for the daemon's pages, metrics and alerts tell of it."""
    told = tmp_path / "told"
    alert = {"name": "page", "on": ["dead"], "shell": f"cat > {told}.part; mv {told}.part {told}"}
    with Premblyd(tmp_path, console=CONSOLE, alerts=[{**alert, "on": ["moon"]}]) as daemon:
        own = signed_in(daemon.start(before=ADDED))
        page, metrics = own.get("/").text, own.get("/metrics").text
        [item, _] = own.get("/overview.json").json["attention"]
        wait_until(told.exists)
        # Commands read the file, whose `on` only the daemon knows.
        daemon.configure(console=CONSOLE, alerts=[alert], listen=daemon.address)
        table = (*troubles.table(), ROW)
        monkeypatch.setattr(troubles, "table", lambda: table)
        status = run("status", "--config", daemon.config)
        check = run("check", "--config", daemon.config)
    command = "premblyd deliveries --state pending --action crm"
    assert "<strong>The moon is full.</strong>" in page
    assert '<a href="/deliveries?action=crm&amp;state=pending">' in page
    assert '<p class="muted">It shines.</p>' in page
    assert (item["kind"], item["severity"], item["command"]) == ("moon", "urgent", command)
    assert 'premblyd_needs_attention{kind="moon"} 1.0' in metrics
    assert f"!! The moon is full.\n   Wait until it wanes.\n   {command}\n" in told.read_text()
    assert status.code == 2
    assert f"!! The moon is full.\n    Wait until it wanes.\n    {command}\n" in status.out
    assert "It shines.\n" in status.out
    assert f"warning: The moon is full. Wait until it wanes. `{command}`" in check.err
