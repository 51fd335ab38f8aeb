"""Prembly's test button: `premblyd send`."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from premblyd.prembly import samples
from tests.cli_support import Ran, run, run_process
from tests.http_server import Handler, serving
from tests.processes import KEY, PATH, Premblyd, configuration

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
        text = json.dumps(configuration(listen=self.daemon.address, endpoint=endpoint))
        self.config.write_text(text)

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


def test_it_sends_a_sample_and_prints_the_answer(sending: Sending) -> None:
    done = sending.send()
    answer = re.fullmatch(r'200 {"status":"received","event":\d+,"duplicate":false}\n', done.out)
    assert (done.code, done.err, bool(answer)) == (0, "", True)
    assert sending.body() == samples.sample("api")


@pytest.mark.parametrize("name", samples.NAMES)
def test_it_sends_every_sample(sending: Sending, name: str) -> None:
    assert sending.send("--sample", name).code == 0
    assert sending.body() == samples.sample(name)


def test_it_sends_the_exact_bytes_of_a_file_or_of_standard_input(
    sending: Sending, tmp_path: Path
) -> None:
    body = b'\xff {"odd":\r\n 1}\n'
    (tmp_path / "body").write_bytes(body)
    assert sending.send(tmp_path / "body").code == 0
    assert sending.body() == body
    assert sending.send("-", stdin=body * 2).code == 0
    assert sending.body() == body * 2


def test_the_same_token_twice_is_a_duplicate_and_without_one_none_is(sending: Sending) -> None:
    answers = [sending.send("--token", "t-1").out for _ in range(2)]
    assert [json.loads(one.partition(" ")[2])["duplicate"] for one in answers] == [False, True]
    sending.send()
    sending.send()
    tokens = [token for _, token, _ in sending.events()]
    assert len(set(tokens)) == len(tokens) == 3


def test_it_signs_with_the_key_of_that_name(sending: Sending) -> None:
    sending.configure(keys={"first": KEY, "second": "another-key"})
    assert sending.send("--key", "second").code == 0
    assert [verified_by for *_, verified_by in sending.events()] == ["hmac-sha256:next"]
    done = sending.send("--key", "third")
    assert done == Ran(1, "", "There is no key third; the configuration has first, second.\n")


def test_a_wrong_key_ends_with_1(sending: Sending) -> None:
    sending.configure(keys={"wrong": "not-the-daemon's"})
    assert sending.send() == Ran(1, '401 {"error":"Invalid signature"}\n', "")
    assert sending.events() == []


def test_a_wrong_path_ends_with_1(sending: Sending) -> None:
    done = sending.send("--url", f"http://{sending.daemon.address}/elsewhere")
    assert (done.code, done.out) == (1, '404 {"error":"Not found"}\n')


def test_many_are_counted_by_answer(sending: Sending) -> None:
    done = sending.send("--count", 40)
    assert done == Ran(0, '40 times 200 {"status":"received","duplicate":false}\n', "")
    assert len(sending.events()) == 40
    done = sending.send("--count", 5, "--token", "t-2")
    assert done.out.splitlines() == [
        '4 times 200 {"status":"received","duplicate":true}',
        '1 times 200 {"status":"received","duplicate":false}',
    ]


def test_they_are_sent_no_faster_than_asked(sending: Sending) -> None:
    began = time.monotonic()
    assert sending.send("--count", 5, "--rate", 20).code == 0
    assert time.monotonic() - began >= 5 / 20


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["body", "--sample", "sdk"], "Give FILE or --sample, not both."),
        (["--sample", "nope"], "'nope' is not one of 'api', 'blocked'"),
        (["--count", "0"], "0 is not in the range"),
        (["--rate", "0"], "0.0 is not in the range"),
        (["/nowhere/at-all"], "No such file"),
    ],
)
def test_a_wrong_use_sends_nothing(
    sending: Sending, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    (tmp_path / "body").touch()
    done = sending.send(*(str(tmp_path / one) if one == "body" else one for one in arguments))
    assert (done.code, done.out) == (2, "")
    assert complaint in done.err
    assert sending.events() == []


def test_it_reaches_a_daemon_on_a_unix_socket(tmp_path: Path) -> None:
    with Premblyd(tmp_path, listen=f"unix:{tmp_path}/s") as daemon:
        daemon.start()
        done = run_process("send", "--count", 2, "--config", daemon.config)
        assert (done.code, done.err) == (0, "")
        assert daemon.rows("SELECT count(*) FROM event") == [(2,)]


@pytest.mark.parametrize("where", ["127.0.0.1:1", "unix:/nowhere/at-all"])
def test_no_daemon_is_a_try_again(tmp_path: Path, where: str) -> None:
    config = tmp_path / "premblyd.yaml"
    config.write_text(json.dumps(configuration(listen=where)))
    for more in ([], ["--count", "3"]):
        done = run("send", *more, "--config", config)
        assert done.code == 75
        assert "connection refused or unreachable" in done.out
        assert done.err == "Not everything was received. Does the daemon run? `premblyd serve`\n"


def test_what_another_server_answers_does_nothing_to_a_terminal(sending: Sending) -> None:
    def busy(handler: Handler) -> None:
        handler.reply(503, "\x1b[31m\x9b later".encode())

    with serving(busy) as server:
        done = sending.send("--url", server.url)
    assert (done.code, done.out) == (75, "503 \ufffd[31m\ufffd later\n")
    ((path, headers, body),) = server.requests
    assert (path, body) == ("/hook?token=hush", samples.sample("api"))
    assert {"content-type", "x-prembly-signature", "token"} <= dict(headers).keys()
    assert PATH not in path
