"""premblyd send"""

import asyncio
import contextlib
import math
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from premblyd import __version__
from premblyd.cli import program
from premblyd.cli.answers import TIMEOUT_S, Reply, Target, meaning
from premblyd.cli.common import config_option
from premblyd.cli.printing import clean, console
from premblyd.errors import PremblydError, TryAgainError
from premblyd.prembly import samples, signature

if TYPE_CHECKING:
    from premblyd.config.models import Config, Endpoint
    from premblyd.httpclient import Request

T = TypeVar("T")
IN_FLIGHT = 16
MAX_COUNT = 1_000_000
MAX_SHOWN = 200  # characters of an answer: premblyd's are shorter
DUPLICATE = (
    "A duplicate runs nothing. Give the body a reference of its own to send it as a new event, or"
    " let the hooks of the event that is there run again: `premblyd replay EVENT`."
)
SENDER = "premblyd-send"  # how the token and the User-Agent of all that is sent here begin


class Rate(click.FloatRange):
    """A number of webhooks a second; the least, 0.001, is one in a quarter of an hour."""

    def __init__(self) -> None:
        super().__init__(min=0.001, max=100_000)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        rate = super().convert(value, param, ctx)
        if math.isnan(rate):  # no range refuses it
            self.fail(f"{value!r} is not a number", param, ctx)
        return rate


@click.command()
@click.argument("file", required=False, type=click.File("rb"))
@click.option(
    "--sample",
    metavar="NAME",
    type=click.Choice(samples.NAMES),
    help="Send this sample (default: api).",
)
@click.option(
    "--endpoint",
    "endpoint_name",
    metavar="NAME",
    help="Send to this endpoint (default: the first).",
)
@click.option("--key", "key_name", metavar="NAME", help="Sign with this key (default: the first).")
@click.option(
    "--url",
    metavar="URL",
    help="Send to this URL (default: the endpoint of the configured daemon).",
)
@click.option(
    "--token",
    metavar="TOKEN",
    help="Send this as the header token (default: a new one for each webhook).",
)
@click.option(
    "--count",
    default=1,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, MAX_COUNT),
    help="Send this many.",
)
@click.option("--rate", metavar="N", type=Rate(), help="Send at most this many a second.")
@config_option
def send(
    config_path: Path,
    *,
    file: IO[bytes] | None,
    sample: str | None,
    endpoint_name: str | None,
    key_name: str | None,
    url: str | None,
    token: str | None,
    count: int,
    rate: float | None,
) -> None:
    """Prembly's dashboard can't send a test; this does. FILE holds the exact body; - is standard
    input. Without FILE a sample is sent, each time with a new reference.

    Your actions run for it as for a webhook of Prembly. What is sent here can be told apart in the
    database: its token begins with premblyd-send- (unless --token says otherwise), and its
    User-Agent with premblyd-send/.

    Exit status 75: the daemon can't be reached, or asked to try again.
    """
    from premblyd.cli import as_service
    from premblyd.config.load import load_config

    if file is not None and sample is not None:
        raise click.UsageError("Give FILE or --sample, not both.")
    if url is not None and not re.match(r"https?://[^/]", url, re.IGNORECASE):
        raise click.UsageError("--url should begin with https:// or http://, and a host.")
    # Root signs with the running service's keys, wherever systemd has them from.
    is_for_service = as_service.is_for_service(config_path)
    environ = as_service.environment_of_running() if is_for_service else os.environ
    settings = load_config(config_path, environ=environ)
    endpoint = _named("endpoint", endpoint_name, {each.name: each for each in settings.endpoints})
    name = key_name or next(iter(endpoint.keys))
    key = _named("key", name, endpoint.key_texts)
    content = file.read() if file is not None else None

    def make_body() -> bytes:
        return samples.fresh_sample(sample or "api") if content is None else content

    sender = Sender(settings, endpoint, key, url)
    replies: Counter[Reply] = Counter()
    interrupted = False
    try:
        asyncio.run(sender.send(make_body, token, replies, count=count, rate=rate))
    except KeyboardInterrupt:
        interrupted = True
    target = _target(settings, config_path, endpoint, name, sender)
    _report(replies, target, count=count, interrupted=interrupted)


class Sender:
    """Sends signed webhooks to the configured daemon, or to `url`."""

    def __init__(
        self, settings: "Config", endpoint: "Endpoint", key: str, url: str | None = None
    ) -> None:
        self._endpoint = endpoint
        self._key = key
        where = settings.listen
        self.unix_path = "" if url else where.unix_path
        host = "localhost" if where.unix_path else str(where)
        self.is_configured = url is None
        self.url = url or f"http://{host}{endpoint.path}"

    async def send(
        self,
        make_body: Callable[[], bytes],
        token: str | None,
        replies: "Counter[Reply]",
        *,
        count: int = 1,
        rate: float | None = None,
    ) -> None:
        """Send `count` webhooks, each with a body of its own making, and count in `replies` how
        often each answer came."""
        from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

        from premblyd.httpclient import HttpClient

        client = HttpClient()
        room = asyncio.Semaphore(IN_FLIGHT)

        async def send_one() -> None:
            request = self.request(make_body(), token or f"{SENDER}-{secrets.token_hex(16)}")
            answer = await client.send(request, TIMEOUT_S, unix_path=self.unix_path)
            text = answer.error or answer.body.decode("utf-8", "replace")
            if count > 1:  # equal answers are counted together
                text = re.sub(r'"event":\d+,', "", text)
            replies[Reply(answer.status, text, answer.retry_after)] += 1
            progress.advance(task)
            room.release()

        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
        out = console(stderr=True)
        silent = count == 1 or not out.is_terminal
        try:
            with Progress(*columns, console=out, disable=silent, transient=True) as progress:
                task = progress.add_task("sending", total=count)
                async with asyncio.TaskGroup() as group:
                    for number in range(count):
                        if rate and number:
                            await asyncio.sleep(1 / rate)
                        await room.acquire()
                        group.create_task(send_one())
        finally:
            client.close()

    def request(self, body: bytes, token: str) -> "Request":
        """Return the request as Prembly makes it."""
        from premblyd.httpclient import Request

        headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", f"{SENDER}/{__version__}"),
            (self._endpoint.header, signature.sign(body, self._key, self._endpoint.scheme)),
            (signature.TOKEN_HEADER, token),
        ]
        return Request(self.url, headers, body)


def _named(what: str, name: str | None, choices: "dict[str, T]") -> "T":
    if name is None:
        return next(iter(choices.values()))
    if name not in choices:
        raise PremblydError(
            f"There is no {what} {name}; the configuration has {', '.join(choices)}."
        )
    return choices[name]


def _target(
    settings: "Config", config_path: Path, endpoint: "Endpoint", key: str, sender: Sender
) -> Target:
    from premblyd import presence
    from premblyd.cli import as_service

    daemon = None
    if sender.is_configured:
        with contextlib.suppress(presence.PresenceError):  # then it is not known whether one runs
            daemon = presence.find(settings.database, config_path)
    return Target(
        where=str(settings.listen),
        unix_path=sender.unix_path,
        is_configured=sender.is_configured,
        key_place=f"endpoint {endpoint.name}, key {key}",
        key=endpoint.keys[key],
        daemon=daemon,
        is_managed=as_service.is_managed(config_path),
    )


def _shortened(text: str) -> str:
    """Return an answer as one line; of another program's page, how it begins."""
    line = " ".join(text.split())
    return f"{line[:MAX_SHOWN]}…" if len(line) > MAX_SHOWN else line


def _report(replies: "Counter[Reply]", target: Target, *, count: int, interrupted: bool) -> None:
    """Print the answers and what they mean, and end with the exit status of the worst."""
    for reply, times in replies.most_common():
        text = clean(_shortened(str(reply)))
        click.echo(f"{times} times {text}" if count > 1 else text)
    if any('"duplicate":true' in reply.text for reply in replies):
        click.echo(program.as_called(DUPLICATE), err=True)
    found = [explained for reply in replies if (explained := meaning(reply, target))]
    for words in dict.fromkeys(explained.words for explained in found):
        click.echo(program.as_called(clean(words)), err=True)
    if interrupted:
        raise PremblydError(f"Interrupted: {replies.total()} of {count} were answered.")
    if any(explained.may_work_later for explained in found):
        raise SystemExit(TryAgainError.exit_code)
    if found:
        raise SystemExit(1)
