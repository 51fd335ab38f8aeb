"""Prembly's test button: `premblyd send`."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from premblyd.features.tryout import cli_send, samples
from premblyd.features.tryout.cli_send import DUPLICATE
from tests.support.commands import Ran, run, run_process
from tests.support.configuration import configuration
from tests.support.daemon import Premblyd
from tests.support.database import url_of
from tests.support.http_server import serving
from tests.support.rows import for_each
from tests.support.webhooks import KEY

EVENTS = "SELECT id, response_code, token, verified_by FROM event WHERE id > ? ORDER BY id"


class Sending:
    """A running daemon, and what came to it since the test began."""

    def __init__(self, daemon: Premblyd) -> None:
        self.daemon = daemon
        self.config = daemon.folder / "send.yaml"
        self.configure()
        ((self._seen,),) = daemon.rows("SELECT coalesce(max(id), 0) FROM event")

    def configure(self, **endpoint: Any) -> None:
        """Write the configuration that `send` reads: the daemon's own, or with another endpoint."""
        own = {"listen": self.daemon.address, "database": url_of(self.daemon.place)}
        self.config.write_text(json.dumps(configuration(endpoint=endpoint, **own)))

    def send(self, *arguments: object, stdin: bytes | None = None) -> Ran:
        return run("send", *arguments, "--config", self.config, stdin=stdin)

    def events(self) -> list[tuple[Any, ...]]:
        return [row[1:] for row in self.daemon.rows(EVENTS, self._seen)]

    def body(self) -> Any:
        return self.daemon.rows("SELECT body FROM event ORDER BY id DESC LIMIT 1")[0][0]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premblyd]:
    keys = {"live": KEY, "next": "another-key"}
    with Premblyd(tmp_path_factory.mktemp("send"), endpoint={"keys": keys}) as daemon:
        yield daemon.start()


@pytest.fixture
def sending(daemon: Premblyd) -> Sending:
    return Sending(daemon)


@pytest.mark.process
@pytest.mark.promise
def test_it_sends_a_sample_and_prints_the_answer(sending: Sending) -> None:
    done = sending.send()
    answer = re.fullmatch(r'200 {"status":"received","event":\d+,"duplicate":false}\n', done.out)
    assert (done.code, done.err, bool(answer)) == (0, "", True)
    # What makes each sample that is sent a new event stands behind its ids.
    assert re.sub(rb"-[a-z]{12}(?=\")", b"", sending.body()) == samples.sample("api")


def test_it_sends_the_exact_bytes_of_a_file_or_of_standard_input(
    sending: Sending, tmp_path: Path
) -> None:
    body = b'\xff {"odd":\r\n 1}\n'
    (tmp_path / "body").write_bytes(body)
    for arguments, stdin, sent in ((tmp_path / "body", None, body), ("-", body * 2, body * 2)):
        assert sending.send(arguments, stdin=stdin).code == 0
        assert sending.body() == sent


def test_a_file_with_a_reference_is_a_duplicate_the_second_time(
    sending: Sending, tmp_path: Path
) -> None:
    (tmp_path / "body").write_bytes(b'{"reference": "of a file"}')
    first, second = (sending.send(tmp_path / "body", "--token", f"t-{at}") for at in range(2))
    assert (first.code, '"duplicate":false' in first.out, first.err) == (0, True, "")
    assert (second.code, '"duplicate":true' in second.out) == (0, True)
    assert second.err == f"{DUPLICATE}\n"


def test_it_signs_with_the_key_of_that_name_or_the_first(sending: Sending) -> None:
    sending.configure(keys={"first": KEY, "second": "another-key"})
    assert [sending.send(*key).code for key in (["--key", "second"], [])] == [0, 0]
    signed_by = [verified_by for *_, verified_by in sending.events()]
    assert signed_by == ["hmac-sha256:next", "hmac-sha256:live"], "without a name, the first"
    done = sending.send("--key", "third")
    assert done == Ran(1, "", "There is no key third; the configuration has first, second.\n")


def test_a_wrong_key_ends_with_1(sending: Sending) -> None:
    sending.configure(keys={"live": "not-the-daemon's"})
    done = sending.send()
    assert (done.code, done.out) == (1, '401 {"error":"Invalid signature"}\n')
    assert done.err.startswith("The receiver has another key, or excludes this address")
    assert sending.events() == []


def test_many_are_counted_by_answer(sending: Sending) -> None:
    """Each sample is a new event each time."""
    done = sending.send("--count", 5)
    assert done == Ran(0, '5 times 200 {"status":"received","duplicate":false}\n', "")
    assert len(sending.events()) == len({token for _, token, _ in sending.events()}) == 5
    done = sending.send("-", "--count", 5, stdin=b'{"reference": "five times"}')
    assert done.out.splitlines() == [
        '4 times 200 {"status":"received","duplicate":true}',
        '1 times 200 {"status":"received","duplicate":false}',
    ]


def test_they_are_sent_no_faster_than_asked_and_the_last_is_not_waited_for(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses_s: list[float] = []

    async def sleep(pause_s: float) -> None:
        pauses_s.append(pause_s)

    monkeypatch.setattr(cli_send, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))
    assert sending.send("--count", 5, "--rate", 20).code == 0
    assert pauses_s == [1 / 20] * 4


def test_a_wrong_use_sends_nothing(sending: Sending, tmp_path: Path) -> None:
    (tmp_path / "body").touch()
    for arguments, complaint in (
        ([tmp_path / "body", "--sample", "sdk"], "Give FILE or --sample, not both."),
        (["--sample", "nope"], "'nope' is not one of 'api', 'async'"),
        (["--count", "0"], "0 is not in the range"),
        (["--rate", "inf"], "inf is not in the range"),
        (["/nowhere/at-all"], "No such file"),
        (["--url", "ftp://hooks.example.com"], "should begin with https:// or http://, and a host"),
    ):
        done = sending.send(*arguments)
        assert (done.code, done.out, complaint in done.err) == (2, "", True)
    assert sending.events() == []


@pytest.mark.process
def test_it_reaches_a_daemon_on_a_unix_socket(tmp_path: Path) -> None:
    with Premblyd(tmp_path, listen=f"unix:{tmp_path}/s") as daemon:
        daemon.start()
        done = run_process("send", "--count", 2, "--config", daemon.config)
        assert (done.code, done.err) == (0, "")
        assert daemon.rows("SELECT count(*) FROM event") == [(2,)]


@for_each("where", ["127.0.0.1:1", "unix:/nowhere/at-all"])
def test_no_daemon_is_a_try_again(tmp_path: Path, where: str) -> None:
    config = tmp_path / "premblyd.yaml"
    config.write_text(json.dumps(configuration(listen=where)))
    done = run("send", "--count", "3", "--config", config)
    assert (done.code, "connection refused or unreachable" in done.out) == (75, True)
    assert (
        done.err == "Does the daemon run, and is the address right? `premblyd check` says more.\n"
    )


ANSWERS = [
    (503, 75, "It could not be stored: the daemon's log says why."),
    (502, 75, "This is not an answer of the daemon."),
    (413, 1, "The body is larger than `max_body`"),
    (404, 1, "No endpoint has this path. "),
    (301, 1, "Give Prembly the URL of the endpoint itself: "),
    (418, 1, "This is not an answer of the daemon."),
]


@for_each(("status", "code", "words"), ANSWERS)
def test_every_answer_is_told_what_it_means(
    sending: Sending, status: int, code: int, words: str
) -> None:
    with serving(lambda handler: handler.reply(status, b"hush")) as server:
        done = sending.send("--count", 2, "--url", server.url)
    assert (done.code, done.out) == (code, f"2 times {status} hush\n")
    assert done.err.startswith(words)
    assert len(done.err.splitlines()) == 1


def test_what_another_server_answers_is_shown_in_part_and_does_nothing_to_a_terminal(
    sending: Sending,
) -> None:
    page = "\x1b[31m\x9b later\n" + "<p>Forbidden</p>\n" * 100
    with serving(lambda handler: handler.reply(503, page.encode())) as server:
        done = sending.send("--url", server.url)
    assert (done.code, len(done.out)) == (75, 202)
    assert done.out.startswith("503 \ufffd[31m\ufffd later <p>Forbidden</p> <p>")
    ((path, headers, body),) = server.requests
    assert (path, json.loads(body)["response_code"]) == ("/hook?token=hush", "00")
    assert {"content-type", "x-prembly-signature", "token"} <= dict(headers).keys()
