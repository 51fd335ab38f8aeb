"""What settles a verification for `reconcile` and a day's result, by table: each webhook that may
be stored, beside what Prembly's log and its API say."""

import asyncio
import itertools
import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from premblyd.features.asking.log import LogEntry
from premblyd.features.asking.standing import Standing
from premblyd.ground import times
from premblyd.prembly import payload
from premblyd.prembly.payload import session_reference
from premblyd.queue.inbox import Inbox
from premblyd.store.connections import backend
from premblyd.store.writer import Writer
from tests.features.asking.test_settles import (
    CODE_01,
    FINAL,
    NOT_VERIFIED,
    ONLY_00,
    PENDING,
    ROWS,
    UNKNOWN,
    VERIFIED,
    Answer,
    Stored,
)
from tests.support import prembly_api
from tests.support.commands import Ran, run
from tests.support.prembly_api import PremblyApi, Shape
from tests.support.reconciling import HOUR_S, Record
from tests.support.store import new_event

REFERENCE = "ver_bvn_00001a"
ANSWERS = {
    "verified": VERIFIED,
    "not verified": NOT_VERIFIED,
    "01": CODE_01,
    "pending": PENDING,
    "00 alone": ONLY_00,
    "unknown": UNKNOWN,
}
COUNTED = ("missing", "unsettled", "doubted", "differs")  # as the day's result calls it


class Came(NamedTuple):
    """What `reconcile` lists, and what has become of it after `--store` (None: it is well)."""

    listed: str | None
    after: str | None
    stored: bool


def expected(name: str, row: Stored, answer: Answer) -> Came:
    """Return what should come of a webhook beside a log that says that the verification ended, with
    the answer's code and word where that is final."""
    is_final = answer in FINAL
    if name == "neither reference nor session":
        return Came("missing", None if is_final else "missing", is_final)
    match row.standing:
        case Standing.RESULT:
            no = answer in (NOT_VERIFIED, CODE_01)
            differs = is_final and no == (name == "verified") and answer in FINAL
            if name == "not verified" and answer is CODE_01:
                differs = False
            return Came("differs" if differs else None, None, differs)
        case Standing.DOUBTED:
            return Came("doubted", "differs" if answer is VERIFIED else None, False)
        case Standing.CODE if answer.code == row.says["response_code"]:
            return Came(None, None, False)
    return Came("unsettled", None if is_final else "unsettled", is_final)


def receive(record: Record, body: bytes) -> None:
    verdict = asdict(payload.read(body))

    async def add() -> None:
        writer = Writer(backend(record.place).engine())
        await Inbox(writer).add(new_event(body, **verdict), [])
        await writer.close()

    asyncio.run(add())


def tell(api: PremblyApi, reference: str, answer: Answer) -> LogEntry:
    """Let Prembly know the verification, and return its entry of the log."""
    word = answer.status if answer in FINAL else None
    code = answer.code if answer in FINAL else "00"
    run_, at_s = word or "success", time.time() - HOUR_S
    known = api.know(reference, code=code, status=answer.status, created_at_s=at_s, run=run_)
    if answer is UNKNOWN:
        api.fail(prembly_api.status(404), reference)
    elif answer not in FINAL:
        said = {"reference": reference, "response_code": answer.code}
        word_said = {"verification_status": answer.status} if answer.status else {}
        known.body = json.dumps({"status": True, "data": said | word_said}).encode()
    return LogEntry(ids=(reference,), at_ms=round(at_s * 1000), code=code, status=run_)


def reconcile(record: Record, *arguments: object, **more: Any) -> Ran:
    return run("reconcile", *arguments, "--config", record.config, **more)


def counts(record: Record, entry: LogEntry) -> dict[str, int]:
    """Return what the day's row counts, without what is 0."""
    assert entry.at_ms is not None
    [told] = json.loads(reconcile(record, "--json", "--day", times.day(entry.at_ms)).out)["days"]
    return {name: value for name, value in told["day"]["counts"].items() if value}


# A thin session: see test_a_thin_session_hides_no_lost_event.
NAMES = [row for row in ROWS if row != "a thin session"]


@pytest.mark.parametrize("rows", [NAMES[start::4] for start in range(4)])
def test_each_webhook_beside_each_log(tmp_path: Path, api: PremblyApi, rows: list[str]) -> None:
    record = Record(tmp_path, api)
    entries, came = {}, {}
    for number, (row, name) in enumerate(itertools.product(rows, ANSWERS)):
        reference = f"ver_bvn_{number:05x}a"
        text = json.dumps(ROWS[row].says | {"answer": name}).replace("r-1", reference)
        receive(record, text.encode())
        entries[reference] = tell(api, reference, ANSWERS[name])
        came[reference] = expected(row, ROWS[row], ANSWERS[name])

    def fates(*arguments: object) -> dict[str, str]:
        ran = reconcile(record, "--json", *arguments)
        absent = json.loads(ran.out)["absent"]
        found = {each["reference"]: each["fate"] for each in absent if each["fate"] not in HELD}
        assert ran.code == int(bool(found))
        return found

    def counted() -> dict[str, int]:
        told = counts(record, next(iter(entries.values())))
        return {name: told[name] for name in COUNTED if name in told}

    def asked() -> dict[str, int]:
        return {name: api.asked(name) for name in entries}

    listed = {name: each.listed for name, each in came.items() if each.listed}
    assert fates() == listed
    assert counted() == Counter(listed.values())
    assert not any(asked().values())
    after = {name: each.after for name, each in came.items() if each.after}
    assert fates("--store") == after
    assert asked() == {name: int(name in listed) for name in entries}
    assert sorted(record.stored()) == [name for name, each in came.items() if each.stored]

    # What was asked about once is not asked about again, and what was stored is there.
    assert fates("--store") == after
    again = {name for name, fate in after.items() if fate != "differs"}
    assert asked() == {name: (name in listed) + (name in again) for name in entries}
    differing = [name for name in after if name not in again]
    assert counted().get("differs", 0) == len(differing)
    for name in differing:
        number = [*entries].index(name) + 1
        assert run("unsettled", "--dismiss", str(number), "--config", record.config).code == 0
    assert fates().keys() == again


HELD = ("stored", "told")


def test_a_thin_session_hides_no_lost_event(tmp_path: Path, api: PremblyApi) -> None:
    record = Record(tmp_path, api)
    session_id = "sdk_session_0123456789"
    receive(record, json.dumps({"session_id": session_id}).encode())
    at_s = time.time() - HOUR_S
    api.know(session_id, session_id=session_id, created_at_s=at_s, shape=Shape.SESSION)
    ran = reconcile(record, "--json")
    assert [each["fate"] for each in json.loads(ran.out)["absent"]] == ["unsettled"]
    assert reconcile(record, "--store").code == 0
    assert record.stored() == [session_reference(session_id)]
    assert reconcile(record).code == 0


def test_without_a_key_what_is_open_is_listed_and_no_fault(tmp_path: Path, api: PremblyApi) -> None:
    record = Record(tmp_path, api)
    settings = json.loads(record.config.read_text())
    del settings["prembly"]
    record.config.write_text(json.dumps(settings))
    listed: dict[str, list[str]] = {"settled": [], "open": [], "missing": []}
    for number, (row, stored) in enumerate(ROWS.items()):
        reference = stored.says.get("session_id", f"ver_bvn_{number:05x}a")
        receive(record, json.dumps(stored.says).replace("r-1", reference).encode())
        is_settled = stored.standing in (Standing.RESULT, Standing.CODE)
        is_missing = row == "neither reference nor session"
        listed["missing" if is_missing else "settled" if is_settled else "open"].append(reference)
    for names, code, words in (
        ([*listed["settled"], *listed["open"]], 0, f"Without a result: {len(listed['open'])} "),
        (listed["settled"], 0, "Nothing is missing."),
        ([*listed["open"], *listed["missing"]], 1, f"Without a result: {len(listed['open'])} "),
    ):
        ran = reconcile(record, "-", stdin="\n".join(names).encode())
        assert ran.code == code
        assert words in ran.out
        assert ("Nothing is missing." in ran.out) is (code == 0)


def test_what_prembly_says_no_more_of_is_no_days_fault(tmp_path: Path, api: PremblyApi) -> None:
    """The daemon has asked until it gave up."""
    record = Record(tmp_path, api)
    receive(record, json.dumps({"reference": REFERENCE}).encode())
    entry = tell(api, REFERENCE, PENDING)
    given_up = """INSERT INTO awaited (endpoint, reference, event_id, state, created_at_ms,
        finished_at_ms, ask_count, answered_at_ms)
        VALUES ('prembly', ?, 1, 'given_up', 1, 2, 9, ?)"""
    record.change(given_up, REFERENCE, None)
    assert reconcile(record).code == 1  # nobody has ever answered
    assert counts(record, entry)["unsettled"] == 1
    record.change("UPDATE awaited SET answered_at_ms = 2")
    ran = reconcile(record, "--store")
    assert (ran.code, "Without a result, at Prembly too: 1." in ran.out) == (0, True)
    assert counts(record, entry)["given_up"] == 1
    assert not counts(record, entry).keys() & {*COUNTED}
    assert api.asked(REFERENCE) == 0
