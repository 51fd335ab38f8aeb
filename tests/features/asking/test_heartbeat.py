"""A downtime that Prembly can be asked about."""

from pathlib import Path

from tests.support.home import ALIVE, DOWNTIMES, HOUR_MS, PREMBLY, Home


def test_a_clean_stop_is_kept_exactly_and_a_start_after_a_downtime_says_once_what_to_do(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path, prembly=PREMBLY)
    assert home.run() == []
    ((ended,),) = home.rows(ALIVE)
    assert home.began < ended
    assert home.rows(DOWNTIMES) == []
    home.age(5 * HOUR_MS)
    (line,) = home.run()
    ((from_ms, until_ms, reconciled_at_ms),) = home.rows(DOWNTIMES)
    assert 5 * HOUR_MS <= until_ms - from_ms < 6 * HOUR_MS
    assert (line["minutes"], line["log_level"], reconciled_at_ms) == (300, "warning", None)
    assert line["remedy"] == f"premblyd reconcile --since {line['down_since']} --store"
    home.configure()
    assert home.run() == []
    assert len(home.rows(DOWNTIMES)) == 1
    home.age(2 * HOUR_MS)
    (line,) = home.run()
    assert line["remedy"] == "set `api_key` in `prembly:`"
    for by_ms in (-30 * HOUR_MS, 30 * HOUR_MS):
        home.set_clock(by_ms)
        assert (home.run(), len(home.rows(DOWNTIMES))) == ([], 2), "a clock invents none"
