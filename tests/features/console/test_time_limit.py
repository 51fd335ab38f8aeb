"""Every page has a limit of time that holds for all its work."""

from pathlib import Path

import pytest

from tests.support.console import CONSOLE, signed_in
from tests.support.daemon import Premblyd

# While the file is there, which says the limit: writing JSON takes 0.8 s, and so does reading how
# the actions fare.
SLOW = """
import os, time
from premblyd.ground import jsontext
from premblyd.features.reading.readers import Readers
from premblyd.features.statistics import shown as statistics

def is_slow():
    return os.path.exists({slow!r})

def slowly(work, seconds):
    def do(*arguments, **more):
        until = time.monotonic() + seconds(more)
        while is_slow() and time.monotonic() < until:
            time.sleep(0.01)
        return work(*arguments, **more)
    return do

jsontext.dumps = slowly(jsontext.dumps, lambda _: 0.8)
statistics.attempts_of = slowly(statistics.attempts_of, lambda _: 0.8)
Readers.time_limit_s = property(
    lambda _: float(open({slow!r}).read()) if is_slow() else 30, lambda *_: None
)
"""


@pytest.mark.process
def test_what_a_page_reads_and_makes_has_one_limit(
    tmp_path: Path,
) -> None:
    slow = tmp_path / "slow"
    with Premblyd(tmp_path, console=CONSOLE) as daemon:
        daemon.start(before=SLOW.replace("{slow!r}", repr(str(slow))))
        assert daemon.send(b"{}").status == 200
        own = signed_in(daemon)
        slow.write_text("1.4")
        page = own.get("/overview.json")
        assert (page.status, "That took too long" in page.text) == (503, True)
        slow.unlink()
        assert own.get("/overview.json").status == 200, "the next page has its own"
