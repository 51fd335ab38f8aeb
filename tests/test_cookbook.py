"""The SQL cookbook, each query on a record in which the answer is not obvious."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from premblyd.ground.databases import DatabaseAddress
from tests.support import postgresql
from tests.support.database import Connection, changing
from tests.support.needs import needs_machine
from tests.support.pages import queries

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = int(time.time()) * 1000
LONG_AGO_MS = 1_764_547_200_000  # 2025-12-01T00:00:00Z
Answer = list[tuple[Any, ...]]


EVENT: dict[str, Any] = {
    "endpoint": "prembly",
    "remote_ip": "192.0.2.7",
    "headers": "[]",
    "body_digest": "",
    "verified_by": "hmac-sha256:live",
    "kind": "api",
    "response_code": "00",
    "type": "unknown",
    "outcome": "verified",
    "doubt": "",
    "duplicate_count": 0,
}
ATTEMPT = {
    "worker": "host:1:boot",
    "action_digest": "aaaaaaaaaaaa",
    "claim_token": "",
    "started_at_ms": LONG_AGO_MS,
    "finished_at_ms": LONG_AGO_MS + 1000,
    "outcome": "succeeded",
}


class Record:
    """A database that is filled row by row; every value that is not named has a default."""

    def __init__(
        self, connection: Connection, place: DatabaseAddress, *, is_postgresql: bool
    ) -> None:
        self.connection, self.place = connection, place
        self.queries = queries(for_postgresql=is_postgresql)

    def event(self, number: int, **values: Any) -> int:
        row = {"key": f"{number:032x}", "received_at_ms": LONG_AGO_MS + number * 1000, **EVENT}
        row |= {"body": b"{}", **values}
        return self.add("event", id=number, body_bytes=len(row["body"]), **row)

    def delivery(self, event_id: int, action: str, state: str, **values: Any) -> int:
        at_ms = {"due_at_ms": LONG_AGO_MS, "finished_at_ms": None}
        if state not in ("pending", "running"):
            at_ms = {"due_at_ms": None, "finished_at_ms": LONG_AGO_MS + 60_000}
        row = {"action": action, "state": state, "attempts_left": 3, "created_at_ms": LONG_AGO_MS}
        return self.add("delivery", event_id=event_id, **row | at_ms | values)

    def attempt(self, delivery_id: int, number: int, **values: Any) -> int:
        return self.add("attempt", delivery_id=delivery_id, number=number, **ATTEMPT | values)

    def ask(self, question: str) -> Answer:
        """Answer the cookbook's query below the question that begins with `question`."""
        (query,) = (block.text for name, block in self.queries.items() if name.startswith(question))
        answer: Answer = self.connection.execute(query).fetchall()
        return answer

    def add(self, table: str, **row: Any) -> int:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        values = [
            bool(value) if name in ("face_match", "is_complete") and value is not None else value
            for name, value in row.items()
        ]
        done = self.connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING id", values
        )
        ((number,),) = done.fetchall()
        return int(number)


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)],
    ids=["sqlite", "postgresql"],
)
def record(request: pytest.FixtureRequest, tmp_path: Path, prepared: Path) -> Iterator[Record]:
    place: DatabaseAddress
    if request.param == "sqlite":
        place = Path(shutil.copy(prepared, tmp_path / "cookbook.db"))
    else:
        with needs_machine():
            place = postgresql.new_database(*postgresql.of_session())
    with changing(place, unchecked=True) as connection:
        yield Record(connection, place, is_postgresql=request.param == "postgresql")


def test_every_question_is_asked_below() -> None:
    asked = re.findall(r'record\.ask\("(.+?)"\)', Path(__file__).read_text())
    assert [question for question in queries() if not question.startswith(tuple(asked))] == []


def test_a_person_without_deliveries_is_listed_too(record: Record) -> None:
    record.event(1, user_ref="usr_000042")
    record.event(2, user_ref="usr_000042")
    record.event(3, user_ref="usr_000043")
    record.delivery(2, "archive", "succeeded")
    answer = record.ask("What did we do about one person")
    assert [row[3:5] for row in answer] == [(None, None), ("archive", "succeeded")]


def test_code_00_is_not_verified_by_whatever_else_the_outcome_is(record: Record) -> None:
    record.event(1)
    record.event(2, outcome="not_verified")
    record.event(3, outcome="unknown", face_match=1)
    record.event(4, outcome="pending", response_code="02")
    assert [row[0] for row in record.ask("Who has code 00 and is *not* verified?")] == [2, 3]


def test_people_without_a_delivery_were_not_activated_either(record: Record) -> None:
    record.event(1, reference="a", user_ref="anna")
    record.delivery(1, "activate-customer", "succeeded")
    record.event(2, reference="b", user_ref="bola")
    record.delivery(2, "activate-customer", "dead", last_error="exit status 1")
    record.delivery(2, "archive", "succeeded")
    record.event(3, reference="c", response_code="02")  # verified by another code: no delivery
    record.event(4, reference="d", outcome="not_verified")
    record.event(5, reference="e", face_match=0)  # `when` said no
    record.event(6)  # neither a reference nor a user_ref
    record.event(7, reference="f")
    record.delivery(7, "activate-customer", "pending")
    record.event(8, reference="a")  # by another event of the verification
    record.delivery(8, "activate-customer", "dead")
    record.event(9, reference="g", user_ref="anna")  # or of the person
    answer = record.ask("Which verified people were not activated by any event")
    never = "not queued: code, when, or no such action then"
    assert [(row[0], *row[4:]) for row in answer] == [
        (2, "00", None, "dead", "exit status 1"),
        (3, "02", None, never, None),
        (5, "00", 0, never, None),
        (6, "00", None, never, None),
        (7, "00", None, "pending", None),
    ]


def test_what_was_skipped_is_shown_with_what_ran_instead(record: Record) -> None:
    for number in (1, 2, 3):
        record.event(number, reference="a")
    ran = record.delivery(1, "activate-customer", "succeeded")
    skipped = record.delivery(2, "activate-customer", "skipped", ran_instead_id=ran)
    record.delivery(3, "archive", "succeeded")
    [row] = record.ask("What was skipped because of `once`")
    assert (row[:5], row[6:8]) == ((skipped, 2, "activate-customer", "a", "verified"), (ran, 1))


def test_a_verification_is_pending_until_any_result_whatever_the_order(record: Record) -> None:
    record.event(1, reference="settled", outcome="verified")
    record.event(2, reference="settled", outcome="pending")  # overtaken
    record.event(3, reference="waits", outcome="pending")
    record.event(4, reference="waits", outcome="pending")
    record.event(5, reference="silent", outcome="unknown")
    record.event(6, reference=None, outcome="pending")
    record.event(7, reference=None, outcome="verified")
    answer = record.ask("Which verifications are pending")
    assert [row[:2] for row in answer] == [("waits", 3), (None, 6)]
    assert answer[0][2] == "2025-12-01T00:00:03.000Z"


def test_times_counts_the_first_webhook_too(record: Record) -> None:
    record.event(1)
    record.event(2, reference="b", duplicate_count=2, last_duplicate_at_ms=LONG_AGO_MS)
    answer = record.ask("Which webhooks did Prembly send more than once?")
    assert [row[:3] for row in answer] == [(2, "b", 3)]


def test_refusals_are_counted_by_day_address_and_reason(record: Record) -> None:
    refused = {"endpoint": "prembly", "remote_ip": "192.0.2.9"}
    for after_ms in (0, HOUR_MS, DAY_MS):
        at_ms = LONG_AGO_MS + after_ms
        record.add("rejection", at_ms=at_ms, reason="wrong signature", **refused)
    record.add("rejection", at_ms=LONG_AGO_MS, reason="missing signature", **refused)
    answer = record.ask("Who was refused, why and how often?")
    told = [(str(row[0])[-2:], row[4]) for row in answer]
    assert told == [("02", 1), ("01", 2), ("01", 1)]


def test_a_key_signs_from_its_first_to_its_last_event(record: Record) -> None:
    record.event(1, verified_by="hmac-sha256:old")
    record.event(2)
    record.event(3, verified_by="hmac-sha256:old")
    record.event(4)
    assert record.ask("Which keys have signed") == [
        ("hmac-sha256:live", 2, "2025-12-01T00:00:02.000Z", "2025-12-01T00:00:04.000Z"),
        ("hmac-sha256:old", 2, "2025-12-01T00:00:01.000Z", "2025-12-01T00:00:03.000Z"),
    ]


def test_days_are_listed_with_what_is_missing_in_them(record: Record) -> None:
    for day, reasons in enumerate(("", "missing")):
        row = {"is_complete": not reasons, "reasons": reasons, "counts": "{}"}
        record.add("day", day_ms=LONG_AGO_MS + day * DAY_MS, read_at_ms=NOW_MS, **row)
    answer = record.ask("Which days are")
    told = [(str(row[0]), bool(row[1]), row[2]) for row in answer]
    assert told == [("2025-12-02", False, "missing"), ("2025-12-01", True, "")]


def test_who_looked_is_told_beside_who_replayed(record: Record) -> None:
    record.add("operator_action", at_ms=LONG_AGO_MS, actor="ada", action="reveal", event_id=1)
    record.add("operator_action", at_ms=LONG_AGO_MS, actor="bo", action="replay", delivery_id=2)
    answer = record.ask("Who looked at personal data")
    assert [row[1:] for row in answer] == [("bo", "replay", None, 2), ("ada", "reveal", 1, None)]


def test_attempts_that_still_run_have_not_failed(record: Record) -> None:
    record.event(1)
    delivery = record.delivery(1, "archive", "running")
    record.attempt(delivery, 1, outcome="failed", error="exit status 1")
    record.attempt(delivery, 2, outcome="timed_out", error="still running after 30 s")
    record.attempt(delivery, 3, outcome="failed", error="exit status 1")
    record.attempt(delivery, 4, outcome=None, finished_at_ms=None)
    answer = record.ask("Why do attempts fail?")
    assert [row[:3] for row in answer] == [
        ("archive", "exit status 1", 2),
        ("archive", "still running after 30 s", 1),
    ]


def test_people_are_counted_once_by_what_names_them_best(record: Record) -> None:
    in_2026 = 1_767_225_600_000  # 2026-01-01T00:00:00Z, the first moment that counts
    record.event(1, received_at_ms=in_2026 - 1, user_ref="too early")
    record.event(2, received_at_ms=in_2026, user_ref="ada")
    record.event(3, received_at_ms=in_2026, user_ref="ada", reference="r")
    record.event(4, received_at_ms=in_2026, reference="r")
    record.event(5, received_at_ms=in_2026)
    assert record.ask("How many people have records of a period?") == [(4, 3)]


def test_people_of_whom_nothing_came_for_years_are_those_whose_last_event_is_old(
    record: Record,
) -> None:
    for number, user_ref in enumerate(("left", "left", "stays", "stays", None), 1):
        record.event(number, user_ref=user_ref)
    record.event(9, user_ref="stays", received_at_ms=LONG_AGO_MS + 60 * DAY_MS)
    answer = record.ask("For whom has nothing come for years?")
    assert [row[:2] for row in answer] == [("left", 2)]


def test_a_body_that_is_no_json_is_left_out(record: Record) -> None:
    record.event(1, response_code="07", body=b'{"data": {"watchListed": "YES"}}')
    record.event(2, response_code="07", body=b"{'python': True}", kind="raw")
    record.event(3, response_code="07", body=b"\xff\x00", kind="raw")
    record.event(4, response_code="07", body=b"{}")
    answer = record.ask("What does the body say in a place that has no column?")
    assert [row[0::2] for row in answer] == [(1, "YES"), (4, None)]
