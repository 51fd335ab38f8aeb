"""A webhook's trace: read strictly, given to its hooks as it came, and named in the log."""

import json
from pathlib import Path

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.httputil import HTTPHeaders

from premblyd.prembly.payload import Webhook
from premblyd.run.http import make_request
from premblyd.run.kinds import of_webhook
from tests.support.commands import run
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.http_server import serving
from tests.support.jobs import endpoint, hook
from tests.support.logs import Lines
from tests.support.receiving import Reception, post
from tests.support.rows import for_each
from tests.support.store import new_event
from tests.support.webhooks import signed

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
NONE = [
    "",
    "hush",
    f"01-{TRACE}-b7ad6b7169203331-01",
    f"00-{TRACE}-b7ad6b7169203331-01-hush",
    f"00-{TRACE.upper()}-b7ad6b7169203331-01",
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE}-b7ad6b7169203331-0x",
    f"00-{TRACE}-b7ad6b7169203331-01\n",
    f"{TRACEPARENT},{TRACEPARENT}",
    TRACEPARENT.replace("0", "\uff10"),  # wide digits
]


def stored(*values: str, name: str = "Traceparent") -> Webhook:
    """Return a webhook that came with these headers among others."""
    return new_event(headers=json.dumps([["Host", "h"], *([name, value] for value in values)]))


def test_one_valid_value_is_read_however_its_header_is_written() -> None:
    for name in ("Traceparent", "traceparent", "TraceParent"):
        event = stored(TRACEPARENT, name=name)
        assert (event.traceparent, event.trace_id) == (TRACEPARENT, TRACE)
    for value in NONE:
        assert stored(value).traceparent is None, value
    assert stored(TRACEPARENT, TRACEPARENT).traceparent is None
    assert stored(TRACEPARENT, "hush").traceparent is None
    assert stored(TRACEPARENT, name="X-Traceparent").traceparent is None
    assert new_event(headers="[]").traceparent is None
    assert stored().trace_id is None


@for_each(("header", "value"), [(TRACEPARENT, TRACEPARENT), ("hush", None)])
def test_every_kind_of_hook_gets_it(header: str, value: str | None) -> None:
    told = of_webhook(stored(header), "act", None, {})
    assert told.environment["PREMBLY_TRACEPARENT"] == value
    for own in ({}, {"Traceparent": "own"}):
        http = {"url": "http://x", "headers": own}
        request = make_request(hook(http=http), told, endpoint(), 0)
        sent = [each for name, each in request.headers if name.lower() == "traceparent"]
        assert sent == ["own" if own else value] if own or value else not sent


@pytest.mark.parametrize("sent", [[TRACEPARENT], [TRACEPARENT, "00-hush-2-01"], ["hush"]])
async def test_the_log_names_a_valid_trace_and_quotes_nothing_else(
    reception: Reception, http_client: AsyncHTTPClient, base_url: str, lines: Lines, sent: list[str]
) -> None:
    headers = HTTPHeaders(signed(b"{}"))
    for value in sent:
        headers.add("traceparent", value)
    headers.add("tracestate", "vendor=hush")
    assert (await post(http_client, base_url, b"{}", headers)).code == 200
    [received] = [line for line in lines if line["event"] == "webhook.received"]
    assert received.get("trace_id") == (TRACE if sent == [TRACEPARENT] else None)
    assert "hush" not in str(lines)
    [(stored_headers,)] = reception.rows("SELECT headers FROM event")
    assert "vendor" not in stored_headers


STATES = "SELECT action, state FROM delivery ORDER BY action"
ATTEMPTS = """SELECT number FROM attempt JOIN delivery ON delivery.id = delivery_id
    WHERE action = 'note' AND attempt.outcome = 'succeeded' ORDER BY number"""


# From a header on the socket to a hook's process, and once more after a replay.
@pytest.mark.process
def test_a_trace_goes_from_the_webhook_to_its_hooks_and_outlasts_a_replay(tmp_path: Path) -> None:
    note = shell("note", f'echo "$PREMBLY_ATTEMPT $PREMBLY_TRACEPARENT" >> {tmp_path}/ran')
    with serving() as server:
        post = {"name": "post", "response_codes": ["*"], "http": {"url": server.url}}
        with Premblyd(tmp_path, actions=[note, post]) as daemon:
            daemon.start()
            assert daemon.send(b"{}", traceparent=TRACEPARENT).status == 200
            daemon.wait_for_rows([("note", "succeeded"), ("post", "succeeded")], STATES)
            assert run("--config", daemon.config, "replay", "1", "--action", "note").code == 0
            daemon.wait_for_rows([(1,), (2,)], ATTEMPTS)
            assert daemon.stop() == 0
            ended = daemon.log("attempt.finished")
        headers, _ = server.got
    assert (tmp_path / "ran").read_text() == f"1 {TRACEPARENT}\n2 {TRACEPARENT}\n"
    assert headers["traceparent"] == TRACEPARENT
    assert [line["trace_id"] for line in ended] == [TRACE] * 3
