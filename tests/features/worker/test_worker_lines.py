"""The lines of the worker protocol: what is told of a delivery, and what is read of an answer."""

import base64
import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from premblyd.features.worker import protocol
from premblyd.features.worker.protocol import (
    Answer,
    AnswerKind,
    ProtocolError,
    delivery_line,
    read_answer,
    require_ready,
)
from premblyd.prembly import bodies
from premblyd.run.kinds import Invocation
from tests.support.jobs import KEY, invocation
from tests.support.rows import for_each

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.lists(leaves, max_size=3) | st.dictionaries(st.text(), leaves, max_size=3)
written = st.builds(
    lambda value, is_ascii: json.dumps(value, ensure_ascii=is_ascii), values, st.booleans()
).map(lambda text: text.encode("utf-8", "surrogatepass"))
some_bytes = written | st.binary() | st.builds(bytes.__add__, written, st.binary(max_size=3))


def nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b"0" + b"]}" * (levels // 2)


def told(body: bytes = b"{}", number: int = 1, **keys: Any) -> dict[str, Any]:
    """Return what a worker reads from the line of a delivery."""
    return read(delivery_line(number, invocation(body, **keys)), number)


def read(line: bytes, number: int = 1) -> dict[str, Any]:
    assert line.startswith(b'{"number":%d,' % number)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    text = line.decode()
    assert not set("\r\u0085\u2028\u2029").intersection(text), "no reader ends a line at it"
    told = json.loads(text, parse_constant=lambda _: 1 / 0)
    assert isinstance(told, dict)
    return told


@given(some_bytes, st.integers(1, 10**18 - 1))
@example(b'{"a": [1,\r\n\t"b\\n\\u2028"],\n"a": 1.10}', 1)
@example('{"name": "Adé\u0085 \u2028 \U0001f600 \u2029"}'.encode(), 17)
def test_every_body_reaches_the_worker_as_json_or_bytes(body: bytes, number: int) -> None:
    line = delivery_line(number, invocation(body))
    got = read(line, number)
    if got["body_base64"] is not None:
        assert got["body"] is None
        assert base64.b64decode(got["body_base64"], validate=True) == body
    else:
        own = line[line.index(b',"body":') + 8 : -2]
        if body.isascii():
            assert own.split() == body.split(), "its own text, but for ends of lines"
        assert repr(got["body"]) == repr(json.loads(body))


@for_each(
    "body",
    [
        *(b"", b"a=1", b"{}{}", b'{"a":NaN}', b'"a\nb"', b'"\xff"', b"[1e999]"),
        *(b'["\\ud800"]', b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}", '{"a":1}'.encode("utf-16-le")),
        *(b"[%b]" % (b"1" * 5000), nested(102), nested(200_000)),
        b"[%b0]" % (b"0," * bodies.MAX_VALUES),
    ],
)
def test_what_a_strict_reader_may_refuse_comes_as_its_bytes(body: bytes) -> None:
    assert base64.b64decode(told(body)["body_base64"]) == body


@for_each(
    "body",
    [
        *(b" [1, 2.50]\n", b'"text"', b"[[],[[],%b]]" % nested(98)),
        b'{"a":"\\ud83d\\ude00"}',
        b"[%b0]" % (b"0," * (bodies.MAX_VALUES - 2)),  # wide, and not deep
        b'{"photo":"%b"}' % (b"[{" * 200),
    ],
)
def test_json_comes_as_json(body: bytes) -> None:
    got = told(body)
    assert got["body_base64"] is None
    assert got["body"] == json.loads(body)


def test_a_line_says_what_a_command_has_in_its_environment_with_its_types() -> None:
    of_command = invocation(
        face_match=False, face_confidence=0.5, user_ref="7", kind="api", idempotency_key="k-1"
    )
    got = read(delivery_line(3, of_command), 3)
    names = {name.removeprefix("PREMBLY_").lower() for name in of_command.environment}
    own = {"number", "id", "received_at", "detail", "verification_status", "body", "body_base64"}
    assert got.keys() == names | own
    assert got["number"] == 3
    assert (got["event"], got["delivery"], got["attempt"]) == (17, 23, 1)
    assert (got["event_key"], got["once_key"], got["id"]) == (KEY, "k-1", "k-1-act")
    assert (got["face_match"], got["face_confidence"], got["user_ref"]) == (False, 0.5, "7")
    assert (got["kind"], got["outcome"]) == ("api", "unknown")
    assert got["received_at"] == "2023-11-14T22:13:20+00:00"
    absent = [name for name, value in got.items() if value is None]
    assert set(absent) == {
        *("response_code", "status", "reference", "risk_level", "risk_score", "doubt", "detail"),
        *("verification_status", "confirmed", "confirmed_fields", "body_base64"),
        "traceparent",
    }


def test_a_line_says_what_prembly_has_confirmed_and_of_who_was_erased_has_no_body() -> None:
    got = told(confirmed=("reference", "outcome"))
    assert (got["confirmed"], got["confirmed_fields"]) == (True, ["reference", "outcome"])
    assert told(confirmed=())["confirmed_fields"] == []
    got = told(b"", is_erased=True)
    assert (got["erased"], got["body"], got["body_base64"]) == (True, None, None)
    assert told()["erased"] is False
    assert b"Ada" not in delivery_line(1, replace(invocation(b'{"name":"Ada"}'), is_erased=True))


def test_a_line_about_no_webhook_has_what_there_is() -> None:
    about = {"PREMBLYD_ALERT_NAME": "page"}
    alert = Invocation(action="page", id="x-page", body=b'{"a":1}', environment=about)
    expected = {"number": 1, "alert_name": "page", "id": "x-page", "body": {"a": 1}}
    assert read(delivery_line(1, alert)) == {**expected, "body_base64": None}


def test_a_worker_is_ready_whatever_it_adds_and_any_other_first_line_says_why() -> None:
    for line in (b"ready 1", b"ready 1\r\n", b"ready  1  of  old\n", b"ready 1 teleport \xff"):
        require_ready(line)
    for line in (b"", b"ready", b"READY 1", b"ready1", b"ready 1x", b"\xff"):
        assert "not `ready 1`" in refused(require_ready, line)
    for line in (b"ready 2", b"ready 0 x"):
        assert "version 1 of" in refused(require_ready, line)


@for_each(
    "line, kind, number, after_s, words",
    [
        (b"ok 1", AnswerKind.OK, 1, 0, ""),
        ("ok  2   Adé is  told".encode(), AnswerKind.OK, 2, 0, "Adé is  told"),
        (b"retry 3 1.5 CRM is closed", AnswerKind.RETRY, 3, 1.5, "CRM is closed"),
        (b"dead 4 no such \xff person", AnswerKind.DEAD, 4, 0, "no such \ufffd person"),
        (b"ok 999999999999999999", AnswerKind.OK, 999999999999999999, 0, ""),
    ],
)
def test_answers(line: bytes, kind: AnswerKind, number: int, after_s: float, words: str) -> None:
    expected = Answer(kind=kind, number=number, after_s=after_s, words=words)
    assert read_answer(line) == expected


BEGINNINGS = (b"", b"Ok 1", b"okay 1", b" ok 1", b"ok1", b"\x00")


@for_each(
    "line, why",
    [
        *((line, "begin with one of ok, retry, dead") for line in BEGINNINGS),
        *(
            (b"ok" + end, "`ok` has no line's number")
            for end in (b"", b" 01", b" -1", b" " + b"1" * 19)
        ),
        *((b"retry 1" + end, "no seconds") for end in (b"", b" soon", b" -1", b" 1e9", b" inf")),
        (b"ok 1 " + b"x" * protocol.MAX_LINE_BYTES, "over 64 KiB"),
    ],
)
def test_what_is_no_answer_says_why_and_quotes_nothing(line: bytes, why: str) -> None:
    assert why in refused(read_answer, line)


@given(st.builds(bytes.__add__, st.sampled_from([b"ok 1", b"retry 1 ", b"ready 1"]), st.binary()))
def test_whatever_bytes_a_worker_writes_are_an_answer_or_a_fault(line: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        answer = read_answer(line)
        assert line.startswith(answer.kind.value.encode() + b" ")
        assert 0 < answer.number < 10**18
        assert 0 <= answer.after_s < 1e11
    with contextlib.suppress(ProtocolError):
        require_ready(line)
        assert re.match(rb"ready +1\s*", line)


def refused(read: Callable[[bytes], object], line: bytes) -> str:
    with pytest.raises(ProtocolError) as error:
        read(line)
    return str(error.value)
