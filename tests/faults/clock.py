"""The wall clock of a daemon is set, by libfaketime, while deliveries wait.

    python -m tests.faults.clock

An hour back or a day forward: nothing is lost, nothing waits longer than its delay, and nothing
runs early by the thousand. 400 days forward, and the daemon restarted: nothing is removed whose
period is not over.
"""

import time
from pathlib import Path

from tests.faults import campaigns
from tests.faults.daemon import UNFINISHED, Victim, folder
from tests.support.configuration import shell
from tests.support.database import by_hand
from tests.support.needs import UnavailableError
from tests.support.waiting import wait_until

HOUR_BACK_MS, DAY_FORWARD_MS, YEAR_FORWARD_MS = -3_600_000, 86_400_000, 400 * 86_400_000
WAITING = 20
LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def _settable(at: Path) -> tuple[Path, dict[str, str]]:
    """Return the file that says how far a daemon's clock is set, and the environment for that."""
    if not LIBRARY.exists():
        raise UnavailableError("libfaketime is not installed")
    setting = at / "clock"
    setting.write_text("+0")
    return setting, {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(setting),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # nor CLOCK_BOOTTIME
        "DONT_FAKE_MONOTONIC": "1",  # its older name
        "FAKETIME_NO_CACHE": "1",
    }


def _set(setting: Path, by_ms: int) -> None:
    new = setting.with_name("new")
    new.write_text(f"{by_ms // 1000:+d}")
    new.rename(setting)  # it ends the process when it reads half a time


def remove_by_a_wrong_clock(at: Path) -> list[str]:
    """Set the clock of a real daemon that has `retention`, and restart it each time."""
    setting, environment = _settable(at)
    with Victim(at, retention={"body": "30d"}) as victim:
        victim.start("", (), (), True, **environment)
        assert victim.send(b"kept").status == 200
        for round_ in range(3):
            assert victim.send(b"%d" % round_).status == 200  # by which a round is seen
            victim.kill()
            sql = "UPDATE event SET received_at_ms = 1 WHERE body = ?"
            by_hand(victim.place, sql, b"%d" % round_)
            _set(setting, YEAR_FORWARD_MS)
            victim.start("", (), (), True, **environment)
            of_round = f"SELECT removed_parts FROM event WHERE id = {round_ + 2}"
            victim.wait_for_rows([("body",)], of_round)
        whole = victim.rows("SELECT count(*) FROM event WHERE body = ?", b"kept")
        problems = victim.complaints()
    return problems if whole == [(1,)] else [*problems, "a clock that was set has removed an event"]


def jump_a_daemon(at: Path, by_ms: int) -> list[str]:
    """Set the clock of a real daemon by libfaketime."""
    setting, environment = _settable(at)
    runs = at / "runs"
    retry = {"attempts": 3, "first_delay": "2s", "factor": 1}
    script = f'echo "$PREMBLY_DELIVERY" >> {runs}; test "$PREMBLY_ATTEMPT" = 2'
    with Victim(at, actions=[shell("wait", script, retry=retry)]) as victim:
        victim.start("", (), (), True, **environment)
        for number in range(WAITING):
            assert victim.send(b"%d" % number).status == 200
        wait_until(lambda: victim.rows("SELECT count(*) FROM attempt")[0][0] >= WAITING)
        _set(setting, by_ms)
        start = time.monotonic()
        victim.send(b'"after the jump"')
        wait_until(lambda: not victim.rows(UNFINISHED)[0][0])
        took_s = time.monotonic() - start
        problems = victim.complaints()
        wait_until(lambda: victim.log("clock.jumped"))  # else the daemon did not see the jump
        if (ran := len(runs.read_text().split())) != 2 * (WAITING + 1):
            problems.append(f"{ran} runs of {WAITING + 1} deliveries that need two each")
        if took_s < 0.9:
            problems.append(f"a delay of at least 1 s took {took_s:.2f} s")
        if victim.healthz()[0] != 200:
            problems.append("it is not healthy")
        victim.kill()
        victim.start("", (), (), True, **environment)
        if victim.rows("SELECT * FROM downtime"):
            problems.append("a clock that was set became a downtime")
    return problems


def main() -> None:
    campaigns.arguments(__doc__)
    problems = []
    for by_ms in (HOUR_BACK_MS, DAY_FORWARD_MS):
        with folder() as at:
            found = jump_a_daemon(at, by_ms)
        print(f"set by {by_ms / 3_600_000:+g} h: {found or 'nothing lost, stuck, early'}")
        problems += found
    with folder() as at:
        found = remove_by_a_wrong_clock(at)
    print(f"set by +400 d, and restarted: {found or 'nothing removed'}")
    campaigns.end(problems + found)


if __name__ == "__main__":
    main()
