"""premblyd demo"""

import asyncio
import contextlib
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from premblyd.cli.lists import LISTS
from premblyd.cli.printing import clean, console, print_rows
from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.daemon import Daemon
from premblyd.features.tryout import samples
from premblyd.features.tryout.cli_send import Sender
from premblyd.ground import logs
from premblyd.ground.errors import PremblydError
from premblyd.ground.httpclient import HttpClient
from premblyd.record import lists
from premblyd.record.filters import DeliveryFilter, EventFilter, RejectionFilter
from premblyd.record.listing import Chosen
from premblyd.store.connections import connect_read_only

PATIENCE_S = 600.0  # a busy machine may take minutes
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
    types: [sdk.session, "verification.*"]
    response_codes: ["00"]
    when: outcome == 'verified'
    once: reference
    shell: echo "$PREMBLY_REFERENCE is a customer"
"""


@click.command()
@click.option("--once", is_flag=True, help="Stop when everything was shown.")
def demo(once: bool) -> None:
    """Webhooks are sent, as Prembly signs them, and their hooks run. Nothing leaves this
    machine."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_demo(once))


async def _demo(once: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="premblyd-demo-") as folder:
        path = Path(folder, "premblyd.yaml")
        settings = _settings(path, port=0)
        logs.configure("auto", "error")
        async with Daemon(settings, path) as daemon:
            # Port 0 let the kernel choose one; from here on the file names it.
            await _show(_settings(path, port=int(daemon.address.rpartition(":")[2])))
            if not once:
                await _stay(daemon, path)


def _settings(path: Path, port: int) -> Config:
    path.write_text(CONFIG.format(port=port))
    path.chmod(0o640)
    return load_config(path)


async def _show(settings: Config) -> None:
    """Send the samples, and print what the record says."""
    say = console().print
    say(f"A daemon listens on [bold]127.0.0.1:{settings.listen.port}[/bold].")
    say(f"Its database is {settings.database}.\n")
    await _send_webhooks(settings)
    await _settle(settings)
    say("\nThe record. [bold]premblyd events[/bold]:")
    _print(settings, EventFilter)
    say("\nWhat ran. [bold]premblyd deliveries[/bold]:")
    _print(settings, DeliveryFilter)
    say("\nRefused, kept as evidence. [bold]premblyd rejections[/bold]:")
    _print(settings, RejectionFilter)


def _print(settings: Config, kind: type[Chosen]) -> None:
    empty, columns = LISTS[kind]
    print_rows(columns, _rows(settings, kind), empty=empty)


async def _send_webhooks(settings: Config) -> None:
    endpoint = settings.endpoints[0]
    right = Sender(settings, endpoint, endpoint.key_texts["demo"])
    wrong = Sender(settings, endpoint, "somebody else's key")
    sdk = samples.sample("sdk")
    sent = (
        ("the SDK's sample", right, sdk),
        ("the API's sample", right, samples.sample("api")),
        ("00, but not verified", right, samples.sample("not-verified")),
        ("00, of a transaction", right, samples.sample("transaction")),
        ("the first one again", right, sdk),
        ("a wrong signature", wrong, sdk),
    )
    client = HttpClient()
    for number, (what, sender, body) in enumerate(sent, 1):
        answer = await client.send(sender.request(body, f"token-{number}"), PATIENCE_S)
        text = answer.error or answer.body.decode()
        click.echo(f"  {what:<22} {answer.status or ''} {clean(text)}")
    client.close()


async def _settle(settings: Config) -> None:
    """Wait until no delivery is left in the queue, and the refusal is on record."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            waiting = {"pending", "running"}
            while waiting & {row.state for row in _rows(settings, DeliveryFilter)} or not _rows(
                settings, RejectionFilter
            ):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise PremblydError("The demo's hooks did not end in time.") from None


async def _stay(daemon: Daemon, path: Path) -> None:
    out = console()
    out.print(f"\nThe demo keeps running on {daemon.address} until Ctrl-C. In another terminal:")
    out.print(f"  export PREMBLYD_CONFIG={path}")
    for command in ("send --sample pending", "events", "show 1", "deliveries"):
        out.print(f"  {shlex.quote(sys.argv[0])} {command}")
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()


def _rows(settings: Config, kind: type[Chosen]) -> list[Any]:
    with contextlib.closing(connect_read_only(settings.database)) as record:
        return lists.rows(record, kind())
