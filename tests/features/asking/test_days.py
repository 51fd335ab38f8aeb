"""premblyd reconcile --day: which days are complete, and that none is that is not shown to be."""

import contextlib
import json
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from premblyd.features.asking import days
from premblyd.features.asking.days import Day
from premblyd.ground import jsontext, times
from premblyd.ground.times import DAY_MS, now_ms
from premblyd.prembly.payload import session_reference
from premblyd.store.connections import connect_operator, connect_read_only
from tests.support.commands import Ran, run
from tests.support.database import by_hand
from tests.support.erasing import forgetting
from tests.support.prembly_api import PremblyApi, status
from tests.support.reconciling import Record

DAY = (datetime.now(UTC) - timedelta(days=2)).date()
NOON_S = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC).timestamp()
BEGUN_MS = int(NOON_S * 1000) - DAY_MS // 2
SESSION = "sdk_session_6c8e3f94aa"


def know(api: PremblyApi, count: int, product: str = "bvn", **fields: Any) -> list[str]:
    """Let Prembly know verifications of the day, and return their references."""
    made = [f"ver_{product}_{uuid.uuid4()}" for _ in range(count)]
    for each in made:
        api.know(each, **{"created_at_s": NOON_S, **fields})
    return made


def receive(record: Record, references: Iterable[str], **changes: Any) -> None:
    """Have an event of each, received on the day."""
    record.receive(references, received_at_ms=int(NOON_S * 1000), **changes)


def reconcile(record: Record, *arguments: object, day: object = DAY) -> Ran:
    return run("reconcile", "--config", record.config, "--day", day, *arguments)


def found(record: Record, code: int, *arguments: object, day: object = DAY) -> dict[str, Any]:
    """Compare a day; return what is printed of it. The record keeps the same."""
    ran = reconcile(record, "--json", *arguments, day=day)
    assert ran.code == code, ran.out + ran.err
    printed: dict[str, Any] = json.loads(ran.out)["days"][0]
    assert printed["day"]["complete"] is not bool(printed["day"]["reasons"])
    assert [json.loads(jsontext.dumps(each)) for each in kept(record)] == [printed["day"]]
    return printed


def kept(record: Record) -> list[Day]:
    with contextlib.closing(connect_read_only(record.place)) as database:
        return days.days(database)


def why(printed: dict[str, Any]) -> list[str]:
    return list(printed["day"]["reasons"])


def counts(printed: dict[str, Any], *names: str) -> tuple[int, ...]:
    return tuple(printed["day"]["counts"][name] for name in names)


def absent(printed: dict[str, Any]) -> list[str]:
    return [each["reference"] for each in printed["absent"]]


def test_a_day_of_which_everything_came_is_complete(record: Record, api: PremblyApi) -> None:
    receive(record, know(api, 13))
    printed = found(record, 0)
    assert (why(printed), counts(printed, "ended", "missing")) == ([], (13, 0))
    assert "is complete: 13 verifications ended by Prembly's log" in reconcile(record).out


def test_what_is_missing_or_unsettled_is_listed_and_counted(
    record: Record, api: PremblyApi
) -> None:
    came, missing, left_open = know(api, 3), know(api, 2), know(api, 1)
    receive(record, came)
    receive(record, left_open, outcome="pending", response_code="02")
    printed = found(record, 1)
    status = json.loads(run("status", "--json", "--config", record.config).out)
    assert status["days"] == [printed["day"]]
    assert "2 missing; 1 unsettled" in run("status", "--config", record.config).out
    assert why(printed) == ["missing", "unsettled"]
    assert counts(printed, "ended", "missing", "unsettled") == (6, 2, 1)
    assert set(absent(printed)) == {*missing, *left_open}
    assert "is not complete: 2 missing; 1 unsettled." in reconcile(record).out
    printed = found(record, 0, "--store")
    assert (why(printed), counts(printed, "missing", "stored")) == ([], (0, 3))


def test_nothing_that_is_kept_names_anybody(record: Record, api: PremblyApi) -> None:
    known = [*know(api, 3), "Ngozi Obi 22123456789", "ver_ngozi_obi_22123456789"]
    for name in known[3:]:
        api.know(name, created_at_s=NOON_S)
    api.know(session_id=SESSION, reference=SESSION, created_at_s=NOON_S)
    receive(record, known[:4], user_ref="usr_ngozi", type="ngozi.obi")
    receive(record, [f"ver_bvn_{uuid.uuid4()}"], session_id=SESSION)
    reconcile(record)
    [row] = record.rows("SELECT * FROM day")
    for secret in (*known, SESSION, session_reference(SESSION), "ngozi", "obi", "22123456789"):
        assert secret not in str(row).lower()


def test_who_was_erased_is_not_missing_and_a_session_alone_is_found(
    record: Record, api: PremblyApi
) -> None:
    gone, came = know(api, 1), know(api, 1)
    api.know(SESSION, created_at_s=NOON_S)
    receive(record, gone + came)
    receive(record, [f"ver_bvn_{uuid.uuid4()}"], session_id=SESSION)
    with contextlib.closing(connect_operator(record.place)) as connection:
        connection.transact(forgetting(*gone), alone=True)
    assert counts(found(record, 0), "ended", "missing") == (3, 0)


def test_of_a_day_of_which_the_log_has_nothing_there_is_nothing_to_compare(
    record: Record, api: PremblyApi
) -> None:
    assert why(found(record, 0)) == ["nothing_to_compare"]
    know(api, 1, run="pending")
    assert why(found(record, 0)) == []


def test_a_day_that_is_not_over_is_not_complete(record: Record) -> None:
    today = datetime.now(UTC).date()
    assert why(found(record, 1, day=today)) == ["day_not_over"]
    ran = reconcile(record, day=today + timedelta(days=2))
    assert (ran.code, "in the future" in ran.err) == (2, True)


@pytest.mark.parametrize("hour", [-1, 25])
def test_a_day_is_not_complete_whose_log_has_another_time_than_it_was_asked_for(
    record: Record, api: PremblyApi, hour: int
) -> None:
    receive(record, know(api, 1))
    api.know("ver_bvn_1a2b3c4d", created_at_s=BEGUN_MS / 1000 + hour * 3600)
    unknown = {"since": "from", "until": "to"}  # to the stand-in
    record.configure(api, prembly={"logs": {"parameters": unknown}})
    printed = found(record, 1)
    assert (why(printed), printed["of_another_time"]) == (["of_another_time"], 1)
    record.configure(api, prembly={"logs": {"parameters": {"since": "", "until": ""}}})
    assert why(found(record, 0)) == []


REMOVAL = f"""INSERT INTO removal (day_ms, removed, period_ms, count)
    VALUES ({BEGUN_MS + DAY_MS}, '%s', {DAY_MS}, 1)"""


@pytest.mark.parametrize(
    "change",
    [REMOVAL % "identity", REMOVAL % "record", "UPDATE event SET removed_parts = 'identity'"],
)
def test_a_day_of_which_retention_has_removed_something_is_not_complete(
    record: Record, api: PremblyApi, change: str
) -> None:
    receive(record, know(api, 1))
    by_hand(record.place, change)
    assert why(found(record, 1)) == ["pruned"]


def test_each_doubt_of_the_log_is_a_reason(record: Record, api: PremblyApi) -> None:
    receive(record, ["ver_bvn_1a2b3c4d"])
    assert why(found(record, 1)) == ["log_empty"], "it may be another account's"
    api.know("ver_bvn_1a2b3c4d", created_at_s=NOON_S)
    record.configure(api, prembly={"logs": {"time": "nowhere"}})
    assert why(found(record, 1)) == ["unreadable"]
    record.configure(api)
    api.know("17", created_at_s=NOON_S)
    assert why(found(record, 1)) == ["unreadable"]
    api.fail(status(500))
    assert why(found(record, 75)) == ["log_not_read"]


def test_a_log_that_breaks_off_is_no_complete_day(record: Record, api: PremblyApi) -> None:
    record.configure(api, prembly={"logs": {"page_size": 10}})
    receive(record, know(api, 25))
    api.before_log_page = lambda _: api.fail(status(500))  # from the next on
    printed = found(record, 75)
    assert (why(printed), counts(printed, "missing")) == (["log_not_read"], (0,))


def test_what_is_not_expected_is_counted_and_ends_no_log(record: Record, api: PremblyApi) -> None:
    logs = {"when": "response_code == '00'", "page_size": 10}
    record.configure(api, prembly={"logs": logs})
    receive(record, know(api, 1, created_at_s=NOON_S - 1))  # the last of the log
    know(api, 35, code="07")
    assert counts(found(record, 0), "not_expected", "ended") == (35, 1)


def test_an_event_that_prembly_has_denied_hides_nothing(record: Record, api: PremblyApi) -> None:
    forged, came = know(api, 1), know(api, 1)
    receive(record, forged + came)
    by_hand(
        record.place,
        "INSERT INTO inquiry (at_ms, purpose, event_id, result, duration_ms)"
        " VALUES (1, 'confirm', 1, 'contradicted', 1)",
    )
    assert absent(found(record, 1)) == forged


def test_what_may_have_been_removed_by_now_is_too_old_to_be_missing(
    record: Record, api: PremblyApi
) -> None:
    record.configure(api, retention={"identity": "1d"})
    know(api, 1)
    printed = found(record, 1)
    assert (why(printed), counts(printed, "too_old")) == (["pruned"], (1,))


def test_a_day_has_one_row_of_the_last_time(record: Record, api: PremblyApi) -> None:
    receive(record, know(api, 2))
    lost = know(api, 1)
    assert why(found(record, 1)) == ["missing"]
    assert why(found(record, 0, "--store")) == []
    assert record.stored() == lost
    receive(record, know(api, 1))
    assert counts(found(record, 0), "ended") == (4,)


@pytest.fixture(name="yesterday_ms")
def begin_yesterday() -> int:
    """Return when yesterday began, if this machine's day does not end meanwhile."""
    return now_ms() // DAY_MS * DAY_MS - DAY_MS


def test_of_the_first_night_yesterday_is_due_and_then_each_day_that_is_not_complete(
    record: Record, yesterday_ms: int
) -> None:
    def due(now_ms: int = yesterday_ms + DAY_MS) -> list[int]:
        with contextlib.closing(connect_read_only(record.place)) as database:
            return [(yesterday_ms - day_ms) // DAY_MS for day_ms in days.due(database, now_ms)]

    def keep(ago: int, reasons: str) -> None:
        names = "day_ms, read_at_ms, is_complete, reasons, counts"
        values = (yesterday_ms - ago * DAY_MS, 1, not reasons, reasons, "{}")
        by_hand(record.place, f"INSERT INTO day ({names}) VALUES {values}")

    assert due() == [0]
    keep(4, "")
    assert due() == [0, 1, 2, 3]
    keep(3, "missing, unsettled")
    keep(2, "")
    keep(1, "pruned")
    assert due() == [0, 3]
    keep(0, "")
    assert due() == [3]
    assert due(yesterday_ms + 5 * DAY_MS) == [-4, -3, -2, -1], "seven nights"


def test_a_night_asks_for_each_incomplete_day_and_keeps_each(
    record: Record, api: PremblyApi, yesterday_ms: int
) -> None:
    def reasons() -> list[tuple[str, ...]]:
        return [each.reasons for each in kept(record)]

    api.fail(status(500))
    ran = reconcile(record, "--store", day=times.day(yesterday_ms - DAY_MS))
    assert (ran.code, reasons()) == (75, [("log_not_read",)])
    api.mend()
    lost = [
        api.know(f"ver_bvn_{ago}", created_at_s=(yesterday_ms - ago * DAY_MS) / 1000 + 3600)
        for ago in (0, 1)
    ]
    ran = reconcile(record, "--store", day="incomplete")
    assert (ran.code, ran.out.count("is complete: 1 verification ended")) == (0, 2), ran.out
    assert reasons() == [(), ()]
    assert sorted(record.stored()) == sorted(each.reference for each in lost)
    ran = reconcile(record, day="incomplete")
    assert (ran.code, ran.out) == (0, "Each of the last 7 days is complete.\n")


def test_what_is_missing_is_told_also_where_the_day_can_not_be_kept(
    record: Record, api: PremblyApi
) -> None:
    [reference] = know(api, 1)
    by_hand(record.place, "DROP TABLE day")
    ran = reconcile(record)
    assert (ran.code, reference in ran.out) == (75, True), ran.err


def test_a_day_goes_alone(record: Record) -> None:
    for more in (["--since", "2d"], ["-"]):
        assert reconcile(record, *more).code == 2
    assert (reconcile(record, day="2026-01-32").code, kept(record)) == (2, [])
