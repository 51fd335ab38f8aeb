"""premblyd reconcile: what never came is found and stored, and all that can go wrong is said."""

import itertools
import json
import re
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from premblyd.features.asking import client, log, reconciliation
from premblyd.prembly.payload import session_reference
from premblyd.store.connections import connect_operator
from tests.support.commands import Ran, run
from tests.support.configuration import shell
from tests.support.database import by_hand, changing
from tests.support.erasing import forgetting
from tests.support.forking import Forked
from tests.support.prembly_api import (
    PremblyApi,
    Shape,
    code_01,
    hang,
    status,
    too_many,
    wrong_reference,
)
from tests.support.reconciling import HOUR_S, Record, every_nth, know
from tests.support.rows import for_each
from tests.support.waiting import wait_until

BVN = "22123456789"  # the stand-in's entries have it as what was looked up
SESSION = "sdk_session_6c8e3f94aa"


def reconcile(record: Record, *arguments: object, stdin: bytes | None = None) -> Ran:
    """Run the command, and hold what is true of each: nothing secret is printed."""
    ran = run("reconcile", "--config", record.config, *arguments, stdin=stdin)
    for secret in (BVN, SESSION, "test_sk_premblyd"):
        assert secret not in ran.out + ran.err
    return ran


def found(record: Record, *arguments: object, code: int) -> dict[str, Any]:
    """Run the command with `--json`, and return what it prints."""
    ran = reconcile(record, "--json", *arguments)
    assert (ran.code, ran.err) == (code, "")
    printed: dict[str, Any] = json.loads(ran.out)
    return printed


def references(printed: dict[str, Any]) -> set[str]:
    return {each["reference"] for each in printed["absent"]}


def test_what_never_came_is_listed_while_the_log_grows_and_nothing_else(
    record: Record, api: PremblyApi
) -> None:
    known = know(api, 400)
    missing = every_nth(known, 20)
    record.receive(set(known) - missing)
    new = itertools.count()

    def grow(_: int) -> None:
        for _ in range(7):
            api.know(f"ver_new_{next(new):05x}a")

    api.before_log_page = grow
    printed = found(record, code=1)
    assert references(printed) == missing
    assert (printed["ended"], printed["missing"], printed["stored"]) == (400, 20, 0)
    assert api.log_pages() <= 6
    assert (api.unknown_parameters, api.asked_by_id()) == (set(), {})


def test_stored_is_what_prembly_answers_as_an_event_with_its_actions(
    tmp_path: Path, api: PremblyApi
) -> None:
    came, lost = know(api, 2)
    record = Record(tmp_path, api, actions=[shell("activate", "true", "00")])
    record.receive([came])
    ran = reconcile(record, "--store")
    assert (ran.code, ran.err) == (0, "")
    assert "Stored missed webhooks: 1 event." in ran.out
    assert "Nothing is missing." in ran.out
    ((endpoint, reference, outcome, verified_by, body),) = record.rows(
        "SELECT endpoint, reference, outcome, verified_by, body FROM event"
        " WHERE type = 'prembly.status'"
    )
    assert (endpoint, reference, outcome) == ("prembly", lost, "verified")
    assert verified_by == "prembly-api"
    assert json.loads(body)["data"]["reference"] == lost  # the exact answer
    assert record.rows("SELECT action, state FROM delivery") == [("activate", "pending")]
    assert record.rows(
        "SELECT purpose, result, reference, stored_event_id IS NOT NULL FROM inquiry"
    ) == [("reconcile", "settled", lost, 1)]
    assert reconcile(record).code == 0
    assert api.asked(lost) == 1


@pytest.mark.process
def test_after_a_kill_the_next_run_asks_for_nothing_that_is_stored(
    tmp_path: Path, api: PremblyApi
) -> None:
    references = know(api, 150)
    for reference in references[100:]:  # so that it is at work when it is killed
        api.fail(hang, reference)
    record = Record(tmp_path, api, prembly={"rate": 100})
    arguments = ("reconcile", "--config", record.config, "--store")
    with Forked(arguments, stdout=subprocess.PIPE) as process:
        wait_until(lambda: len(record.stored()) >= 30)
        process.send_signal(signal.SIGKILL)
    before = record.stored()
    assert 30 <= len(before) < 150
    asked = api.asked_by_id()
    api.mend()
    record.configure(api)
    assert found(record, "--store", code=0)["stored"] == 150 - len(before)
    assert sorted(record.stored()) == sorted(references)
    assert all(api.asked(reference) == asked[reference] == 1 for reference in before)


def test_a_key_that_prembly_refuses_is_said(record: Record, api: PremblyApi) -> None:
    know(api, 3)
    for asked, http_status in enumerate((401, 403), start=1):
        api.fail(status(http_status))
        ran = reconcile(record, "--store")
        assert (ran.code, api.asked()) == (78, asked)
        assert f"Prembly refuses it (HTTP {http_status})" in ran.err


def test_a_key_that_is_refused_half_way_loses_nothing(
    record: Record, api: PremblyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other: an answer to what was asked later would show that the key is right."""
    monkeypatch.setattr(reconciliation, "AT_ONCE", 1)
    known = know(api, 3)

    def end_of_the_key(handler: Any) -> None:
        api.fail(status(401))
        status(401)(handler)

    api.fail(end_of_the_key, known[1])
    ran = reconcile(record, "--store")
    assert ran.code == 78
    assert "Missing:" in ran.out
    assert known[1] in ran.out
    assert known[1] not in record.stored()


def test_prembly_that_does_not_answer_is_said(record: Record, api: PremblyApi) -> None:
    api.fail(status(503, Retry_After="600"))
    ran = reconcile(record)
    assert (ran.code, ran.out) == (75, "")
    assert "Prembly could not be asked: " in ran.err
    assert "HTTP 503. Ask no earlier than in 600 s. If it stays so" in ran.err
    assert "`prembly: {url: …}`" in ran.err
    assert api.asked() <= log.TRIES


def test_a_log_that_can_not_be_read_is_said_with_where_to_look(
    record: Record, api: PremblyApi
) -> None:
    for logs, words in (
        ({"items": "data.entries"}, "the answer has no list where `items` looks for one"),
        ({"path": "/logs/"}, "it is not at /logs/ (HTTP 404)"),
    ):
        record.configure(api, prembly={"logs": logs})
        ran = reconcile(record)
        assert (ran.code, ran.out) == (1, "")
        assert f"Prembly's log can't be read: {words}. See `prembly: {{logs: …}}`." in ran.err


@pytest.mark.parametrize("fault", [status(500), too_many("1")])
def test_a_failure_that_passes_is_outlasted(
    record: Record, api: PremblyApi, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (reference,) = know(api, 1)
    api.fail(fault, times=1)
    api.fail(fault, reference, times=1)
    later_s = 0.0

    async def sleep(pause_s: float) -> None:
        nonlocal later_s
        later_s += pause_s

    monkeypatch.setattr(log, "asyncio", SimpleNamespace(sleep=sleep))
    clock = vars(time) | {"monotonic": lambda: time.monotonic() + later_s}
    monkeypatch.setattr(client, "time", SimpleNamespace(**clock))
    assert reconcile(record, "--store").code == 0
    assert record.stored() == [reference]


def test_what_is_not_found_or_not_settled_is_said_apart_and_stays_missing(
    record: Record, api: PremblyApi
) -> None:
    gone, gone_too, pending, other, fine = know(api, 5)
    api.know(pending, status="PENDING", code="02", created_at_s=time.time() - HOUR_S)
    api.fail(status(404), gone)
    api.fail(code_01, gone_too)
    api.fail(wrong_reference, other)
    printed = found(record, "--store", code=1)
    fates = {each["reference"]: each["fate"] for each in printed["absent"]}
    assert fates == {**dict.fromkeys((gone, gone_too, pending, other), "missing"), fine: "stored"}
    whys = {each["reference"]: each["why"] for each in printed["absent"]}
    assert {whys[gone], whys[gone_too]} == {"Prembly knows no such verification"}
    assert whys[pending] == "Prembly does not know yet either"
    assert record.stored() == [fine]
    asked = dict(record.rows("SELECT reference, result FROM inquiry"))
    assert asked == {
        **dict.fromkeys((gone, gone_too), "not_found"),
        **dict.fromkeys((pending, other), "unsettled"),
        fine: "settled",
    }
    assert "Missing: 4 of 5." in reconcile(record).out


def test_what_was_erased_is_neither_missing_nor_asked_for(record: Record, api: PremblyApi) -> None:
    first, second, *_ = know(api, 3)
    with closing(connect_operator(record.place)) as database:
        database.transact(forgetting(first, sessions=[SESSION]))
    printed = found(record, code=1)
    assert (printed["ended"], printed["missing"]) == (3, 2)
    assert first not in references(printed)
    assert found(record, "--store", code=0)["stored"] == 2
    assert sorted(record.stored()) == sorted(set(know(api, 3)) - {first})
    listed = reconcile(record, "-", stdin=f"{first.upper()}\n{first}\n{SESSION}\n".encode())
    assert listed.code == 1, "another spelling of what is no UUID is another reference"
    listed = reconcile(record, "-", stdin=f"{first}\n{second}\n{SESSION}\n".encode())
    assert listed.out == "Nothing is missing.\n"


def test_who_is_erased_while_prembly_answers_is_in_no_question(
    record: Record, api: PremblyApi
) -> None:
    [reference] = know(api, 1)

    def erase_and_answer(handler: Any) -> None:
        with closing(connect_operator(record.place)) as database:
            database.transact(forgetting(reference))
        status(404)(handler)

    api.fail(erase_and_answer, reference)
    found(record, "--store", code=1)
    assert record.rows("SELECT reference FROM inquiry") == []


@for_each("periods", [{"identity": "2h"}, {"identity": "1y", "record": "2h"}])
def test_what_is_so_old_that_its_name_was_removed_is_not_expected(
    record: Record, api: PremblyApi, periods: dict[str, str]
) -> None:
    """Of several periods the shortest counts."""
    record.configure(api, retention=periods)
    now = time.time()
    api.know("ver_bvn_0aaaa1", created_at_s=now - 3 * HOUR_S)
    api.know("ver_bvn_0aaaa2", created_at_s=now - HOUR_S)
    printed = found(record, code=1)
    assert (printed["missing"], printed["too_old"]) == (1, 1)
    assert references(printed) == {"ver_bvn_0aaaa2"}


def test_a_webhook_that_comes_meanwhile_is_not_doubled(record: Record, api: PremblyApi) -> None:
    (reference,) = know(api, 1)

    def come(handler: Any) -> None:
        record.receive([reference], response_code="00", outcome="verified")
        handler.reply_bytes(handler.own_answer())

    api.fail(come, reference, times=1)
    assert found(record, "--store", code=0)["absent"][0]["fate"] == "stored"
    assert record.rows("SELECT count(*) FROM event") == [(1,)]


@for_each("is_open", [False, True])
def test_an_event_is_known_by_another_name_that_prembly_gave_its_verification(
    record: Record, api: PremblyApi, is_open: bool
) -> None:
    """In the log by its reference, and here by its session: an answer has linked them. What came
    and left it open is listed as that, and its answer is stored once."""
    (reference,) = know(api, 1)
    record.change("DELETE FROM event")
    record.change("DELETE FROM verification_name")
    digest = session_reference(SESSION)
    names = "INSERT INTO verification_name (name, verification, at_ms) VALUES (?, ?, 1)"
    for name in (digest, reference):
        record.change(names, name, digest)
    record.receive([digest], outcome="pending" if is_open else "verified", response_code=None)
    printed = found(record, code=int(is_open))
    assert [each["fate"] for each in printed["absent"]] == ["unsettled"] * is_open
    assert reconcile(record, "-", stdin=f"{reference}\n{SESSION}\n".encode()).code == int(is_open)
    for _ in range(2):
        assert reconcile(record, "--store").code == 0
    assert record.stored() == [reference] * is_open


HOSTILE: list[Any] = [
    None,
    17,
    [],
    {},
    {"reference_id": "\x1b]0;owned\x07\x1b[2J", "created_at": "\x1b[31m"},
    {"reference_id": "r" * 300_000},
    {"reference_id": BVN, "searched_id": BVN},
    {"reference_id": "ver_x_1\u202egnp", "status": "\u202e", "response_code": "\x00"},
    {"reference_id": ["ver_a_1"], "session_id": {"a": 1}},
    {"reference_id": "../../etc/passwd?x=1#y", "status": "success"},
    {"reference_id": "ver_fine_1", "status": f"\x1b[2J {BVN}", "response_code": BVN},
    {"reference_id": f"ref-{BVN}", "searched_id": BVN},
    {"photo": "x" * (1 << 19), "reference_id": "ver_photo_1"},
]


def test_a_hostile_log_does_no_harm(
    record: Record, api: PremblyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "log_page", lambda _: {"data": HOSTILE, "total_pages": 1})
    for arguments in (("--store",), ("--json",)):
        ran = reconcile(record, *arguments)
        assert ran.code == 1
        assert "ver_fine_1" in ran.out
        assert "passwd" not in ran.out
        assert not set(ran.out + ran.err) & {"\x1b", "\x07", "\u202e", "\x00"}
        assert len(ran.out) < 10_000
    asked = [question.path for question in api.questions if question.identifier]
    assert asked
    assert all(re.fullmatch(r"/api/v1/verification/api/status/[\w~.:-]+/", path) for path in asked)


def test_a_log_that_repeats_is_not_called_whole(
    record: Record, api: PremblyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = know(api, 25)
    record.receive(known)
    have_a_downtime(record)
    page = api.log_page
    monkeypatch.setattr(api, "log_page", lambda query: page(query | {"page": "1"}))
    printed = found(record, code=1)
    assert (printed["missing"], printed["is_sure"]) == (0, False)
    assert record.rows("SELECT reconciled_at_ms FROM downtime") == [(None,)]
    monkeypatch.undo()
    assert "Nothing is missing." in reconcile(record).out


def have_a_downtime(record: Record) -> int:
    """Have the record tell of hours without a daemon until lately; return the time."""
    now_ms = time.time_ns() // 1_000_000
    with changing(record.place) as connection:
        downtime = "INSERT INTO downtime (from_ms, until_ms) VALUES (?, ?)"
        connection.execute(downtime, [now_ms - 7_200_000, now_ms - 300_000])
    return now_ms


def test_of_an_empty_log_there_is_nothing_to_compare(record: Record) -> None:
    have_a_downtime(record)
    ran = reconcile(record)
    assert (ran.code, "Nothing to compare: " in ran.out) == (0, True)
    assert "Nothing is missing" not in ran.out
    assert record.rows("SELECT reconciled_at_ms FROM downtime") == [(None,)]


def test_a_list_needs_no_key_and_asks_nobody(tmp_path: Path, api: PremblyApi) -> None:
    record = Record(tmp_path, api, prembly={"api_key": {"file": "not-there"}})
    uuid = "0f8fad5b-d9cb-469f-a165-70867728950e"
    record.receive(["ver_came_1", uuid])
    record.receive(["ver_other"], session_id=SESSION)
    listed = f"\n{SESSION}\n\nver_lost_1\nver_lost_1\n{uuid.replace('-', '_')}\n"
    ran = reconcile(record, "-", stdin=listed.encode())
    assert (ran.code, ran.err) == (1, "")
    said, title, row, last = ran.out.splitlines()
    assert said == "Missing: 1 of 3."
    assert (title.split(), row.split()) == (["line", "reference", "why"], ["4", "ver_lost_1"])
    assert last.startswith("--store asks Prembly")
    ran = reconcile(record, "-", "--json", stdin=listed.encode())
    (absent,) = json.loads(ran.out)["absent"]
    assert (absent["reference"], absent["line"]) == ("ver_lost_1", 4)
    record.configure(api, prembly={"api_key": None})
    ran = reconcile(record)
    assert (ran.code, ran.out, "there is none" in ran.err) == (78, "", True)
    assert api.asked() == 0


def test_of_a_list_with_wrong_lines_nothing_is_compared(record: Record) -> None:
    listed = f"ver_came\nAmina {BVN}\n"
    ran = reconcile(record, "-", stdin=listed.encode())
    assert (ran.code, ran.out, "have not: 2." in ran.err) == (2, "", True)
    assert "Amina" not in ran.err


def test_of_several_events_one_that_tells_how_it_ended_is_enough(
    record: Record, api: PremblyApi
) -> None:
    """What one event alone does: tests/features/asking/test_settles_reconcile.py."""
    (reference,) = know(api, 1)
    record.receive([reference], outcome="pending")
    record.receive([f"{reference} "], outcome="verified")  # another body, so no duplicate
    by_hand(record.place, "UPDATE event SET reference = ?", reference)
    assert reconcile(record, "--store").code == 0
    assert record.stored() == []


@for_each("fields", [{"code": "02", "status": "PENDING"}, {"code": "03"}, {"run": "processing"}])
def test_what_the_log_leaves_open_too_is_neither_unsettled_nor_expected(
    record: Record, api: PremblyApi, fields: dict[str, Any]
) -> None:
    (reference,) = know(api, 1, **fields)
    record.receive([reference], outcome="pending", response_code="02")
    api.know("ver_bvn_open1", run="processing", created_at_s=time.time() - HOUR_S)
    ran = reconcile(record)
    assert ran.code == 0
    assert "Not ended yet, so not expected: " in ran.out


def test_a_list_is_asked_for_and_stored(record: Record, tmp_path: Path, api: PremblyApi) -> None:
    known = know(api, 3)
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(known))
    assert reconcile(record, listed, "--store").code == 0
    assert sorted(record.stored()) == sorted(known)


def test_a_session_is_asked_for_and_never_named(record: Record, api: PremblyApi) -> None:
    unknown = reconcile(record, "-", "--store", stdin=b"session-0123456789abcdef01234567\n")
    assert (unknown.code, "can't be asked for" in unknown.out, api.asked()) == (1, True, 0)
    api.know("ver_of_session", session_id=SESSION, shape=Shape.SESSION)
    ran = reconcile(record, "-", "--store", stdin=SESSION.encode())
    assert (ran.code, ran.err) == (0, "")
    assert api.asked(SESSION) == 1
    assert record.rows("SELECT reference FROM inquiry") == [(None,)]
    ((digest,),) = record.rows("SELECT reference FROM event")
    for name in (SESSION, digest):
        assert reconcile(record, "-", stdin=name.encode()).code == 0


def test_wrong_usage_is_said(record: Record) -> None:
    for arguments, words in (
        (("-", "--since", "1h"), "can't be combined"),
        (("--since", "10s"), "--since should be more than a minute ago"),
    ):
        ran = reconcile(record, *arguments, stdin=b"ver_a_1\n")
        assert (ran.code, words in ran.err) == (2, True)


def test_a_downtime_is_reminded_of_until_nothing_of_it_is_missing(
    record: Record, api: PremblyApi
) -> None:
    (lost,) = know(api, 1)
    now_ms = have_a_downtime(record)
    checked = run("check", "--config", record.config)
    assert checked.code == 0
    (command_line,) = re.findall(r"`premblyd (reconcile .*)`", checked.err)
    assert reconcile(record, "--since", "10m").code == 0  # not the whole of it
    assert reconcile(record, "--since", "3h").code == 1  # lists only
    assert "premblyd reconcile" in run("check", "--config", record.config).err
    assert reconcile(record, *command_line.split()[1:]).code == 0
    assert record.stored() == [lost]
    assert "reconcile" not in run("check", "--config", record.config).err
    ((mended_at_ms,),) = record.rows("SELECT reconciled_at_ms FROM downtime")
    assert mended_at_ms >= now_ms
