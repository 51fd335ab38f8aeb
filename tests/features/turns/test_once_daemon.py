"""Webhooks that come again, against a whole daemon: what runs, and what people are told."""

import json
from pathlib import Path

import pytest

from premblyd.run.kinds import NOT_STORED
from tests.support.commands import Ran, run
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.webhooks import BODY

UNFINISHED = "SELECT count(*) FROM delivery WHERE state IN ('pending', 'running')"


@pytest.mark.process
@pytest.mark.promise
def test_the_second_is_skipped_and_people_are_told_what_ran_instead(tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    script = f'echo "$PREMBLY_ONCE_KEY $PREMBLY_DELIVERY" >> {effects}'
    activate = shell("activate", script, "00", when="outcome == 'verified'", once="reference")
    with Premblyd(tmp_path, actions=[activate, shell("all", "true")]) as daemon:
        config = ["--config", daemon.start().config]
        for body in (BODY, BODY + b" "):
            daemon.send(body)
            daemon.wait_for_rows([(0,)], UNFINISHED)
        listed = run("deliveries", "--state", "skipped", *config).out
        assert "delivery 1 (event 1) ran instead" in listed
        [row] = json.loads(run("deliveries", "--state", "skipped", "--json", *config).out)
        told = ("id", "event_id", "ran_instead_id", "ran_instead_event_id")
        assert [row[name] for name in told] == [3, 2, 1, 1]
        shown = "skipped\n  delivery 1 (event 1) ran instead\n"
        assert f"Delivery 3: activate {shown}" in run("show", "2", *config).out

        assert run("replay", 2, *config) == Ran(0, "Queued 2 deliveries.\n", "")
        daemon.wait_for_rows([(0,)], UNFINISHED)
        skipped = "SELECT state, ran_instead_id FROM delivery WHERE id = 3"
        assert daemon.rows(skipped) == [("skipped", 1)]
        assert len(effects.read_text().splitlines()) == 1

        explained = run("explain", "-", *config, stdin=BODY).out
        assert f"  PREMBLY_ONCE_KEY={NOT_STORED}\n" in explained
