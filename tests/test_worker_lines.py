"""The lines of the worker protocol: what is told of a delivery, and what is read of an answer."""

import base64
import json
import re
from dataclasses import replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from premblyd import __version__
from premblyd.prembly import bodies
from premblyd.run import protocol
from premblyd.run.invocation import Invocation, of_webhook
from premblyd.run.protocol import (
    Answer,
    AnswerKind,
    ProtocolError,
    delivery_line,
    hello,
    read_answer,
    require_ready,
)
from tests.support.jobs import KEY, invocation, webhook
from tests.support.rows import for_each

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
written = st.builds(
    lambda value, indent, is_ascii: json.dumps(value, indent=indent, ensure_ascii=is_ascii),
    values,
    st.none() | st.just("\t") | st.just(2),
    st.booleans(),
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
def test_every_body_reaches_the_worker_as_its_json_or_as_its_bytes(
    body: bytes, number: int
) -> None:
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
        *(b"", b"a=1", b"{", b"{}{}", b'{"a":NaN}', b"[-Infinity]", b'"a\nb"', b"\xff", b'"\xff"'),
        *(b'["\\ud800"]', b'{"\\udc00":1}', b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}", b"[1e999]"),
        *('{"a":1}'.encode(code) for code in ("utf-16", "utf-16-le", "utf-32")),
        *(b"[%b]" % (b"1" * 5000), nested(102), nested(900), nested(200_000)),
        b"[%b0]" % (b"0," * bodies.MAX_VALUES),
    ],
)
def test_what_a_strict_reader_may_refuse_comes_as_its_bytes(body: bytes) -> None:
    assert base64.b64decode(told(body)["body_base64"]) == body


@for_each(
    "body",
    [
        *(b"{}", b" [1, 2.50]\n", b'"text"', b"0", b"true", b"[[],[[],%b]]" % nested(98)),
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
        face_match=False, face_confidence=0.5, user_ref="7", kind="api", once_key="k-1"
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


def test_a_line_says_what_prembly_has_confirmed() -> None:
    got = told(is_confirmed=True, confirmed_fields=("reference", "outcome"))
    assert got["confirmed"] is True
    assert got["confirmed_fields"] == ["reference", "outcome"]
    assert told(is_confirmed=True)["confirmed_fields"] == []


def test_of_who_was_erased_a_line_has_no_body() -> None:
    got = told(b"", is_erased=True)
    assert got["erased"] is True
    assert (got["body"], got["body_base64"]) == (None, None)
    assert told()["erased"] is False
    assert b"Ada" not in delivery_line(1, replace(invocation(b'{"name":"Ada"}'), is_erased=True))


def test_a_line_about_no_webhook_has_what_there_is() -> None:
    about = {"PREMBLYD_ALERT_NAME": "page"}
    alert = Invocation(action="page", id="x-page", body=b'{"a":1}', environment=about)
    expected = {"number": 1, "alert_name": "page", "id": "x-page", "body": {"a": 1}}
    assert read(delivery_line(1, alert)) == {**expected, "body_base64": None}


def test_the_numbers_of_a_payload_that_is_not_stored_are_zero() -> None:
    got = read(delivery_line(1, of_webhook(webhook({}), "act", None, None)))
    assert (got["event"], got["delivery"], got["attempt"], got["worker"]) == (0, 0, 1, None)


def test_premblyd_greets_with_its_version_and_the_action() -> None:
    assert json.loads(hello("tell-crm")) == {
        "premblyd": 1,
        "version": __version__,
        "action": "tell-crm",
    }
    assert hello("a").startswith(b'{"premblyd":1,')
    assert hello("a").endswith(b"}\n")


@for_each("line", [b"ready 1", b"ready 1\r\n", b"ready  1  of  old\n", b"ready 1 teleport \xff"])
def test_a_worker_is_ready_whatever_it_adds(line: bytes) -> None:
    require_ready(line)


@for_each(
    "line, why",
    [
        *((line, "not `ready 1`") for line in (b"", b"ready", b"READY 1", b"ready one", b"ready1")),
        *(
            (line, "not `ready 1`")
            for line in (b"Connected to 08031234567", b"ready 1busy", b"\xff")
        ),
        *((line, "version 1 of") for line in (b"ready 2", b"ready 0 busy", b"ready 999999999")),
    ],
)
def test_a_first_line_that_is_not_understood_says_why(line: bytes, why: str) -> None:
    assert why in refused(require_ready, line)


@for_each(
    "line, kind, number, after_s, words",
    [
        (b"ok 1", AnswerKind.OK, 1, 0, ""),
        (b"ok 17 \r\n", AnswerKind.OK, 17, 0, ""),
        ("ok  2   Adé is  told".encode(), AnswerKind.OK, 2, 0, "Adé is  told"),
        (b"ok 2 5", AnswerKind.OK, 2, 0, "5"),
        (b"retry 3 0", AnswerKind.RETRY, 3, 0, ""),
        (b"retry 3 1.5 CRM is closed", AnswerKind.RETRY, 3, 1.5, "CRM is closed"),
        (b"dead 4 no such \xff person", AnswerKind.DEAD, 4, 0, "no such \ufffd person"),
        (b"busy 999999999999999999", AnswerKind.BUSY, 999999999999999999, 0, ""),
        (b"abort 6 my licence is over", AnswerKind.ABORT, 6, 0, "my licence is over"),
    ],
)
def test_answers(line: bytes, kind: AnswerKind, number: int, after_s: float, words: str) -> None:
    expected = Answer(kind=kind, number=number, after_s=after_s, words=words)
    assert read_answer(line) == expected


BEGINNINGS = (b"", b"\n", b"Ok 1", b"okay 1", b"Connected.", b" ok 1", b"ok1", b"\x00", b"{}")


@for_each(
    "line, why",
    [
        *((line, "begin with one of ok, retry, dead, busy, abort") for line in BEGINNINGS),
        *((b"ok" + end, "`ok` has no line's number") for end in (b"", b" ", b" 0", b" 01", b" -1")),
        *((b"ok " + end, "`ok` has no line's number") for end in (b"1.5", b"x", b"1" * 19)),
        *((b"retry 1" + end, "no seconds") for end in (b"", b" soon", b" -1", b" 1e9", b" inf")),
        *((b"retry 1 " + end, "no seconds") for end in (b"." * 9, b"1" * 12, b"\xd9\xa3", b"nan")),
        (b"ok 1 " + b"x" * protocol.MAX_LINE_BYTES, "over 64 KiB"),
    ],
)
def test_what_is_no_answer_says_why_and_quotes_nothing(line: bytes, why: str) -> None:
    assert why in refused(read_answer, line)


answers = st.builds(
    lambda words, gaps: b"".join(a + b for a, b in zip(words, gaps, strict=False)),
    st.lists(st.sampled_from([b"ok", b"retry", b"busy", b"1", b"0", b"9" * 20]) | st.binary()),
    st.lists(st.sampled_from([b" ", b"\t", b"\n", b"  ", b"\x00", b""]), min_size=9),
)


@given(answers | st.binary())
def test_whatever_bytes_a_worker_writes_are_an_answer_or_a_fault(line: bytes) -> None:
    try:
        answer = read_answer(line)
    except ProtocolError:
        pass
    else:
        assert line.startswith(answer.kind.value.encode() + b" ")
        assert 0 < answer.number < 10**18
        assert 0 <= answer.after_s < 1e11
    try:
        require_ready(line)
    except ProtocolError:
        pass
    else:
        assert re.match(rb"ready +1\s*", line)


def refused(read: Any, line: bytes) -> str:
    try:
        read(line)
    except ProtocolError as error:
        return str(error)
    raise AssertionError(f"{line!r} was taken")
