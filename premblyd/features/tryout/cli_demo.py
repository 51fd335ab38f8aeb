"""premblyd demo. It simulates a CRM and Prembly's API on this machine."""

import asyncio
import contextlib
import json
import re
import shlex
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import click

from premblyd.cli.lists import LISTS
from premblyd.cli.printing import clean, console, print_rows
from premblyd.cli.send import Sender
from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.daemon import Daemon
from premblyd.ground import logs, times
from premblyd.ground.errors import PremblydError
from premblyd.ground.httpclient import HttpClient
from premblyd.prembly import payload, samples
from premblyd.prembly.payload import Verdict
from premblyd.record import lists
from premblyd.record.filters import DeliveryFilter, EventFilter, RejectionFilter
from premblyd.record.listing import Chosen
from premblyd.store.connections import connect_read_only

PATIENCE_S = 600.0  # a busy machine may take minutes
KNOWN_TO_PREMBLY = ("sdk", "api", "not-verified", "retried")  # the last one's webhook never comes
CONFIG = """\
listen: 127.0.0.1:{port}
database: sqlite:///premblyd.db
log: {{format: auto, level: warning}}
endpoints:
  - name: prembly
    path: /webhooks/prembly
    keys: {{demo: demo_pk_invented}}
prembly: {{url: "http://127.0.0.1:{prembly}", api_key: demo_sk_invented, rate: 50}}
actions:
  - name: tell-operations
    response_codes: ["*"]
    shell: echo "$PREMBLY_TYPE ${{PREMBLY_RESPONSE_CODE:-no code}} $PREMBLY_OUTCOME $(wc -c) bytes"
  - name: activate-customer
    types: [sdk.session, "verification.*", prembly.status]
    response_codes: ["00"]
    when: outcome == 'verified'
    confirm: true
    once: reference
    http: {{url: "http://127.0.0.1:{crm}/activate"}}
    retry: {{attempts: 2, first_delay: 200ms}}
"""
Answer = Callable[[str, bytes], bytes | None]  # of a path and a body; None: there is no such path
_STATUS = re.compile(r"/api/v1/verification/api/status/([^/]+)/")
_LOGS = "/api/v1/verification/logs/"
_RUN = "success"  # how the log says that a request ended
_AGE_MS = 600_000  # of all verifications


@click.command()
@click.option("--once", is_flag=True, help="Stop when everything was shown.")
def demo(once: bool) -> None:
    """A forged webhook is not confirmed. A CRM that is down makes deliveries end dead; it comes
    back, and they are replayed. A webhook that never came is found.

    The CRM and Prembly's API are simulated on this machine: nothing leaves it.
    """
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_demo(once))


async def _demo(once: bool) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="premblyd-demo-") as folder,
        _bound() as crm,
        _bound() as prembly,
    ):
        path = Path(folder, "premblyd.yaml")
        ports = {"crm": crm.getsockname()[1], "prembly": prembly.getsockname()[1]}
        settings = _settings(path, port=0, **ports)
        logs.configure("auto", "error")
        known = (samples.sample(name) for name in KNOWN_TO_PREMBLY)
        async with serve(prembly, Prembly(*known).answer), Daemon(settings, path) as daemon:
            # Port 0 let the kernel choose one; from here on the file names it.
            port = int(daemon.address.rpartition(":")[2])
            await _show(_settings(path, port=port, **ports), path, crm)
            if not once:
                await _stay(daemon, path)


def _settings(path: Path, **ports: int) -> Config:
    path.write_text(CONFIG.format(**ports))
    path.chmod(0o640)
    return load_config(path)


def _bound() -> socket.socket:
    """Return a socket with a port of its own on which nobody answers yet."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


async def _show(settings: Config, path: Path, bound: socket.socket) -> None:
    """Send the samples, break and mend the CRM, find what never came, and print what the record
    says."""
    say = console().print
    say(f"A daemon listens on [bold]127.0.0.1:{settings.listen.port}[/bold].")
    say(f"Its database is {settings.database}.\n")
    await _send_webhooks(settings)

    say("\nBefore a customer is activated, Prembly is asked whether it is true.")
    say("It contradicts the forged one: dead at once.")
    say("The CRM is down: the others die after two tries.")
    await _settle(settings)
    _print_deliveries(settings)
    customers: list[bytes] = []

    def take(_: str, body: bytes) -> bytes:
        customers.append(body)
        return b"{}"

    async with serve(bound, take):
        say("\nThe CRM is back. [bold]premblyd replay --dead[/bold]:")
        await _run("replay", "--dead", "--config", str(path))
        await _settle(settings)
        _print_deliveries(settings)
        say(f"The CRM got {len(customers)} customers. The forged one is not among them.")
        say("\nA webhook that never came. [bold]premblyd reconcile --store[/bold]:")
        await _run("reconcile", "--store", "--config", str(path))
        await _settle(settings)
        say(f"Now the CRM has {len(customers)} customers.")
    say("\nThe record. [bold]premblyd events[/bold]:")
    _print(EventFilter, _rows(settings, EventFilter))
    say("\nRefused, kept as evidence. [bold]premblyd rejections[/bold]:")
    _print(RejectionFilter, _rows(settings, RejectionFilter))


def _print_deliveries(settings: Config) -> None:
    _print(DeliveryFilter, _rows(settings, DeliveryFilter)[::-1])


def _print(kind: type[Chosen], rows: list[Any]) -> None:
    empty, columns = LISTS[kind]
    print_rows(columns, rows, empty=empty)


async def _send_webhooks(settings: Config) -> None:
    endpoint = settings.endpoints[0]
    right = Sender(settings, endpoint, endpoint.key_texts["demo"])
    wrong = Sender(settings, endpoint, "somebody else's key")
    sdk = samples.sample("sdk")
    not_verified = samples.sample("not-verified")
    forged = not_verified.replace(b"NOT-VERIFIED", b"VERIFIED").replace(b"false", b"true")
    sent = (
        ("the SDK's sample", right, sdk),
        ("the API's sample", right, samples.sample("api")),
        ("00, but not verified", right, not_verified),
        ("00, of a transaction", right, samples.sample("transaction")),
        ("the first one again", right, sdk),
        ("a wrong signature", wrong, sdk),
        ("forged, rightly signed", right, forged),
    )
    client = HttpClient()
    for number, (what, sender, body) in enumerate(sent, 1):
        answer = await client.send(sender.request(body, f"token-{number}"), PATIENCE_S)
        text = answer.error or answer.body.decode()
        click.echo(f"  {what:<22} {answer.status or ''} {clean(text)}")
    client.close()


async def _settle(settings: Config) -> None:
    """Wait until no delivery is left in the queue."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE_S
    while loop.time() < end:
        await asyncio.sleep(0.05)
        states = {delivery.state for delivery in _rows(settings, DeliveryFilter)}
        if not states & {"pending", "running"}:
            return
    raise PremblydError("The demo's hooks did not end in time.")


async def _stay(daemon: Daemon, path: Path) -> None:
    out = console()
    out.print(f"\nThe demo keeps running on {daemon.address} until Ctrl-C. In another terminal:")
    out.print(f"  export PREMBLYD_CONFIG={path}")
    for command in ("send --sample pending", "events", "show 1", "deliveries --state dead"):
        out.print(f"  {shlex.quote(sys.argv[0])} {command}")
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()


async def _run(*arguments: str) -> None:
    """Run a premblyd command as an operator would, in a process of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "premblyd", *arguments)
    if await process.wait():
        raise PremblydError(f"The demo's {arguments[0]} failed.")


def _rows(settings: Config, kind: type[Chosen]) -> list[Any]:
    with contextlib.closing(connect_read_only(settings.database)) as record:
        return lists.rows(record, kind())


@contextlib.asynccontextmanager
async def serve(bound: socket.socket, answer: Answer) -> AsyncIterator[None]:
    """Answer requests on `bound` while this is entered."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            answered = answer(head.split(" ", 2)[1], body)
            status = "404 Not Found" if answered is None else "200 OK"
            answered = answered or b""
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(answered)}\r\n\r\n".encode()
            )
            writer.write(answered)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(handle, sock=bound):
        yield


class Prembly:
    """Knows verifications: what the bodies of their webhooks say, by reference."""

    def __init__(self, *bodies: bytes) -> None:
        self._known = {verdict.reference: verdict for verdict in map(payload.read, bodies)}

    def answer(self, path: str, _: bytes) -> bytes | None:
        url = urlsplit(path)
        if url.path == _LOGS:
            filters = dict(parse_qsl(url.query))
            return self._log(filters) if filters["page"] == "1" else None
        asked = _STATUS.fullmatch(path)
        verdict = self._known.get(unquote(asked[1])) if asked else None
        return None if verdict is None else _envelope(_entry("reference", verdict))

    def _log(self, filters: Mapping[str, str]) -> bytes:
        is_asked_for = filters.get("status", _RUN) == _RUN
        known = self._known.values() if is_asked_for else ()
        entries = [{**_entry("reference_id", verdict), "status": _RUN} for verdict in known]
        count = len(entries)
        pages = {"page": 1, "page_size": 100, "total_pages": 1, "total_items": count}
        return _envelope(entries, pagination=pages)


def _entry(reference: str, verdict: Verdict) -> dict[str, Any]:
    return {
        reference: verdict.reference,
        "response_code": verdict.response_code,
        "verification_status": verdict.verification_status,
        "created_at": times.iso(times.now_ms() - _AGE_MS),
    }


def _envelope(data: Any, **more: Any) -> bytes:
    answer = {"data": data, "status": True, "message": "Request successful.", "errors": {}, **more}
    return json.dumps(answer).encode()
