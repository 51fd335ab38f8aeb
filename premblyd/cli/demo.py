"""premblyd demo"""

import asyncio
import contextlib
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from premblyd.cli.printing import clean, console, iso, print_table
from premblyd.errors import PremblydError
from premblyd.prembly import samples

if TYPE_CHECKING:
    from premblyd.config import Config
    from premblyd.daemon import Daemon
    from premblyd.hooks.http_client import Answer

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
    shell: echo "code ${{PREMBLY_RESPONSE_CODE:-missing}}, $PREMBLY_OUTCOME, $(wc -c) bytes"
  - name: activate-customer
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
    from premblyd import config, logs
    from premblyd.daemon import Daemon

    with tempfile.TemporaryDirectory(prefix="premblyd-demo-") as folder:
        port, crm_port = _free_port(), _free_port()
        path = Path(folder, "premblyd.yaml")
        path.write_text(CONFIG.format(port=port, crm=crm_port))
        path.chmod(0o640)
        settings = config.load(path)
        logs.configure("auto", "error")
        daemon = Daemon(settings, path)
        await daemon.start()
        try:
            await _show(settings, path, crm_port)
            if not once:
                await _stay(daemon, path)
        finally:
            await daemon.stop()


async def _show(settings: "Config", path: Path, crm_port: int) -> None:
    """Send the samples, break and mend the CRM, and print what the record says."""
    from premblyd.cli.send import Sender

    endpoint = settings.endpoints[0]
    sender = Sender(settings, endpoint, endpoint.key_texts["demo"])
    say = console().print
    say(f"A daemon listens on [bold]{sender.url}[/bold], with {path.parent}/premblyd.db.\n")
    await _post(sender, "the SDK's webhook (sample sdk)", samples.sample("sdk"), "token-1")
    await _post(sender, "the API's webhook (sample api)", samples.sample("api"), "token-2")
    await _post(sender, "code 00, person not verified", samples.sample("not-verified"), "token-3")
    await _post(sender, "the first one again: a duplicate", samples.sample("sdk"), "token-1")
    forger = Sender(settings, endpoint, "somebody else's key")
    await _post(forger, "a wrong signature", samples.sample("sdk"), "token-4")

    say("\nThe CRM is down, so activate-customer fails, and is tried again, until it is dead:")
    await _settle(settings)
    _print_deliveries(settings)
    say("\nThe CRM is back. [bold]premblyd replay --dead[/bold]:")
    async with _crm(crm_port) as activated:
        await _run("replay", "--dead", "--config", str(path))
        await _settle(settings)
        _print_deliveries(settings)
        say(f"The CRM got {len(activated)} customers.")
    say("\nThe record. [bold]premblyd events[/bold]:")
    _print_events(settings)
    _print_rejections(settings)


async def _post(sender: Any, what: str, body: bytes, token: str) -> None:
    from premblyd.hooks.http_client import HttpClient

    client = HttpClient(1)
    answer: Answer = await client.post(sender.post(body, token), PATIENCE_S)
    client.close()
    said = answer.error or answer.body.decode()
    click.echo(f"  {what:<34} {answer.status or ''} {clean(said)}")


async def _settle(settings: "Config") -> None:
    """Wait until no delivery is left in the queue."""
    from premblyd.store import audit, database

    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE_S
    while loop.time() < end:
        await asyncio.sleep(0.05)
        with contextlib.closing(database.connect_read_only(settings.database_path)) as reading:
            states = {row["state"] for row in audit.deliveries(reading)}
        if not states & {"pending", "running"}:
            return
    raise PremblydError("The demo's hooks did not end in time.")


@contextlib.asynccontextmanager
async def _crm(port: int) -> Any:
    """Play a CRM: answer every POST with 200, and keep what came."""
    got: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        got.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
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


def _print_deliveries(settings: "Config") -> None:
    from premblyd.store import audit, database

    with contextlib.closing(database.connect_read_only(settings.database_path)) as reading:
        rows = audit.deliveries(reading)[::-1]
    print_table(
        ("delivery", "event", "action", "state", "attempts", "last error"),
        [
            (
                *(row["id"], row["event_id"], row["action"], row["state"]),
                *(row["attempt_count"], row["last_error"]),
            )
            for row in rows
        ],
        empty="",
    )


def _print_events(settings: "Config") -> None:
    from premblyd.store import audit, database

    with contextlib.closing(database.connect_read_only(settings.database_path)) as reading:
        rows = audit.events(reading, audit.EventFilter(), limit=50)[::-1]
    print_table(
        ("event", "at (UTC)", "kind", "code", "outcome", "reference", "duplicates", "verified by"),
        [
            (
                *(row["id"], iso(row["received_at_ms"]), row["kind"], row["response_code"]),
                *(row["outcome"], row["reference"], row["duplicate_count"], row["verified_by"]),
            )
            for row in rows
        ],
        empty="",
    )


def _print_rejections(settings: "Config") -> None:
    from premblyd.store import audit, database

    with contextlib.closing(database.connect_read_only(settings.database_path)) as reading:
        rows = audit.rejections(reading, limit=10)
    console().print("\nRejected, kept as evidence:")
    print_table(
        ("at (UTC)", "from", "reason", "bytes"),
        [(iso(row["at_ms"]), row["remote_ip"], row["reason"], row["body_bytes"]) for row in rows],
        empty="",
    )


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
