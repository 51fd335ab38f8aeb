"""premblyd demo"""

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from premblyd.cli.printing import clean, console
from premblyd.errors import PremblydError
from premblyd.prembly import samples

if TYPE_CHECKING:
    from premblyd.config.models import Config
    from premblyd.daemon import Daemon
    from premblyd.httpclient import Response
    from premblyd.record.rows import DeliveryRow

PATIENCE_S = 20.0
CONFIG = """\
listen: 127.0.0.1:{port}
database: sqlite:///premblyd.db
log: {{format: auto, level: warning}}
endpoints:
  - name: prembly
    path: /webhooks/prembly
    keys: {{demo: demo_pk_invented}}
actions:
  - name: tell-operations
    response_codes: ["*"]
    shell: echo "$PREMBLY_TYPE ${{PREMBLY_RESPONSE_CODE:-no code}} $PREMBLY_OUTCOME $(wc -c) bytes"
  - name: activate-customer
    types: [sdk.session, "verification.*", prembly.status]
    response_codes: ["00"]
    when: outcome == 'verified'
    http: {{url: "http://127.0.0.1:{crm}/activate"}}
    retry: {{attempts: 2, first_delay: 200ms}}
"""


@click.command()
@click.option("--once", is_flag=True, help="End when everything was shown.")
def demo(once: bool) -> None:
    """A CRM that is down makes deliveries end dead; it comes back, and they are replayed."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_demo(once))


async def _demo(once: bool) -> None:
    from premblyd.daemon import Daemon
    from premblyd.logs import output

    with tempfile.TemporaryDirectory(prefix="premblyd-demo-") as folder, _bound() as crm:
        path = Path(folder, "premblyd.yaml")
        crm_port = crm.getsockname()[1]
        settings = _settings(path, 0, crm_port)
        output.configure("auto", "error")
        async with Daemon(settings, path) as daemon:
            # Port 0 let the kernel choose one; from here on the file names it.
            port = int(daemon.address.rpartition(":")[2])
            await _show(_settings(path, port, crm_port), path, crm)
            if not once:
                await _stay(daemon, path)


def _settings(path: Path, port: int, crm_port: int) -> "Config":
    from premblyd.config.load import load_config

    path.write_text(CONFIG.format(port=port, crm=crm_port))
    path.chmod(0o640)
    return load_config(path)


def _bound() -> socket.socket:
    """Return a socket with a port of its own on which nobody answers yet."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


async def _show(settings: "Config", path: Path, crm: socket.socket) -> None:
    """Send the samples, break and mend the CRM, and print what the record says."""
    from premblyd.cli.send import Sender

    endpoint = settings.endpoints[0]
    sender = Sender(settings, endpoint, endpoint.key_texts["demo"])
    say = console().print
    say(f"A daemon listens on [bold]{sender.url}[/bold].")
    say(f"Its database is {settings.database_path}.\n")
    await _post(sender, "the SDK's sample", samples.sample("sdk"), "token-1")
    await _post(sender, "the API's sample", samples.sample("api"), "token-2")
    await _post(sender, "00, but not verified", samples.sample("not-verified"), "token-3")
    await _post(sender, "00, of a transaction", samples.sample("transaction"), "token-5")
    await _post(sender, "the first one again", samples.sample("sdk"), "token-1")
    forger = Sender(settings, endpoint, "somebody else's key")
    await _post(forger, "a wrong signature", samples.sample("sdk"), "token-4")

    say("\nThe CRM is down, so activate-customer fails, twice, and is dead:")
    await _settle(settings)
    _print_deliveries(settings)
    say("\nThe CRM is back. [bold]premblyd replay --dead[/bold]:")
    async with _crm(crm) as activated:
        await _run("replay", "--dead", "--config", str(path))
        await _settle(settings)
        _print_deliveries(settings)
        say(f"The CRM got {len(activated)} customers.")
    say("\nThe record. [bold]premblyd events[/bold]:")
    _print_events(settings)
    say("\nRefused, kept as evidence. [bold]premblyd rejections[/bold]:")
    _print_rejections(settings)


async def _post(sender: Any, what: str, body: bytes, token: str) -> None:
    from premblyd.httpclient import HttpClient

    client = HttpClient(1)
    answer: Response = await client.send(sender.request(body, token), PATIENCE_S)
    client.close()
    text = answer.error or answer.body.decode()
    click.echo(f"  {what:<20} {answer.status or ''} {clean(text)}")


async def _settle(settings: "Config") -> None:
    """Wait until no delivery is left in the queue."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE_S
    while loop.time() < end:
        await asyncio.sleep(0.05)
        states = {delivery.state for delivery in _deliveries(settings)}
        if not states & {"pending", "running"}:
            return
    raise PremblydError("The demo's hooks did not end in time.")


@contextlib.asynccontextmanager
async def _crm(bound: socket.socket) -> Any:
    """Play a CRM: answer every POST with 200, and keep what came."""
    got: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        got.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, sock=bound)
    async with server:
        yield got


async def _stay(daemon: "Daemon", path: Path) -> None:
    out = console()
    out.print(f"\nIt stays up on {daemon.address} until Ctrl-C. In another terminal:")
    out.print(f"  export PREMBLYD_CONFIG={path}")
    for command in ("send --sample pending", "events", "show 1", "deliveries --state dead"):
        out.print(f"  premblyd {command}")
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()


async def _run(*arguments: str) -> None:
    """Run a premblyd command as an operator would, in a process of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "premblyd", *arguments)
    if await process.wait():
        raise PremblydError("The demo's replay failed.")


def _record(settings: "Config") -> "contextlib.closing[Any]":
    from premblyd.store.sqlite.opening import connect_read_only

    return contextlib.closing(connect_read_only(settings.database_path))


def _deliveries(settings: "Config") -> "list[DeliveryRow]":
    from premblyd.record import reading

    with _record(settings) as record:
        return reading.deliveries(record, reading.DeliveryFilter())


def _print_deliveries(settings: "Config") -> None:
    from premblyd.cli.deliveries import print_deliveries

    print_deliveries(_deliveries(settings)[::-1], hint="")


def _print_events(settings: "Config") -> None:
    from premblyd.cli.events import print_events
    from premblyd.record import reading

    with _record(settings) as record:
        rows = reading.events(record, reading.EventFilter(), reading.Page(limit=50))
    print_events(rows, hint="`premblyd events --wide` shows all.")


def _print_rejections(settings: "Config") -> None:
    from premblyd.cli.rejections import print_rejections
    from premblyd.record import reading

    with _record(settings) as record:
        rows = reading.rejections(record, reading.RejectionFilter(), reading.Page(limit=10))
    print_rejections(rows, hint="")
