"""What the log names while names of persons have a period."""

import json
import re
from pathlib import Path

import pytest

from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

PASSED = b'{"response_code": "00", "verification": {"reference": "sample-sdk-000%b"}}'


def test_the_log_names_no_verification_if_what_names_a_person_has_a_period(tmp_path: Path) -> None:
    actions = [shell("act", "true")]
    with Premblyd(tmp_path, actions=actions, retention={"identity": "1y"}) as daemon:
        daemon.start()
        assert daemon.send(PASSED % b"1").status == 200
        wait_until(lambda: "attempt.finished" in daemon.log_text())
        daemon.reload(actions=actions)
        assert daemon.send(PASSED % b"2").status == 200
        wait_until(lambda: daemon.log_text().count("attempt.finished") == 2)
        assert daemon.stop() == 0
        logged = [json.loads(line) for line in daemon.log_text().splitlines()]
    references = {line["event_id"]: line["reference"] for line in logged if "reference" in line}
    assert re.fullmatch("~[0-9a-f]{8}", references[1])
    assert references[2] == "sample-sdk-0002"
