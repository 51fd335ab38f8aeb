"""premblyd send"""

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from premblyd import __version__
from premblyd.cli import as_service, config_option
from premblyd.cli.common import count_option
from premblyd.cli.printing import clean, progress
from premblyd.config.load import load_config
from premblyd.config.models import Config, Endpoint
from premblyd.features.tryout import samples
from premblyd.features.tryout.explaining import named
from premblyd.ground.errors import PremblydError, TryAgainError
from premblyd.ground.httpclient import HttpClient, Request
from premblyd.prembly import signature

F = TypeVar("F", bound=Callable[..., Any])
TIMEOUT_S = 30.0
IN_FLIGHT = 16
MAX_COUNT = 1_000_000
MAX_SHOWN = 200  # characters of an answer: premblyd's are shorter
TRY_AGAIN = {0, 502, 503, 504}  # 0: no answer
WORDS = {
    401: "The receiver has another key, or excludes this address: `reason` in its log says which."
    " After a change of the key, restart the daemon.",
    404: "No endpoint has this path. Reload the daemon after a change of `path`.",
    413: "The body is larger than `max_body`, or than the limit of a proxy in front.",
    503: "It could not be stored: the daemon's log says why. Try again.",
}
_REDIRECTED = (
    "Give Prembly the URL of the endpoint itself: it follows most redirects, and takes any page"
    " that answers 200 for a delivery."
)
_NO_ANSWER = "Does the daemon run, and is the address right? `premblyd check` says more."
_OTHER = "This is not an answer of the daemon. Is the URL right, and does the daemon run behind it?"
DUPLICATE = (
    "No hook runs for a duplicate. Give the body another reference to send it as a new event, or"
    " run the hooks of the stored event again: `premblyd replay EVENT`."
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: an answer, or (`status` 0) the reason why there is none."""

    status: int
    text: str

    def __str__(self) -> str:
        return f"{self.status} {self.text}" if self.status else self.text


def sender_options(command: F) -> F:
    """Add `--endpoint` and `--key`; the parameters are `endpoint_name` and `key_name`."""
    key = click.option(
        "--key", "key_name", metavar="NAME", help="The key that signs it (default: the first)."
    )
    endpoint = click.option(
        "--endpoint",
        "endpoint_name",
        metavar="NAME",
        help="The endpoint that gets it (default: the first).",
    )
    return endpoint(key(command))


@click.command()
@click.argument("file", required=False, type=click.File("rb"))
@click.option(
    "--sample",
    metavar="NAME",
    type=click.Choice(samples.NAMES),
    help="Send this sample (default: api).",
)
@sender_options
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
@count_option("--count", 1, MAX_COUNT, "Send this many.")
@click.option(
    "--rate",
    metavar="N",
    type=click.FloatRange(0.001, 100_000),
    help="Send at most this many a second.",
)
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

    Your actions run for it as for a webhook of Prembly. In the database you recognise it by its
    token, which begins with premblyd-send- (unless --token says otherwise), and its User-Agent,
    premblyd-send/.

    Exit status 75: the daemon can't be reached, or asked to try again.
    """
    if file is not None and sample is not None:
        raise click.UsageError("Give FILE or --sample, not both.")
    if url is not None and not re.match(r"https?://[^/]", url, re.IGNORECASE):
        raise click.UsageError("--url should begin with https:// or http://, and a host.")
    as_service.hand_over(config_path, file)  # root signs with the service's keys
    settings = load_config(config_path)
    endpoint = named("endpoint", endpoint_name, {each.name: each for each in settings.endpoints})
    key = named("key", key_name, endpoint.key_texts)
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
    _report(replies, count=count, interrupted=interrupted)


class Sender:
    """Sends signed webhooks to the configured daemon, or to `url`."""

    def __init__(
        self, settings: Config, endpoint: Endpoint, key: str, url: str | None = None
    ) -> None:
        self._endpoint = endpoint
        self._key = key
        where = settings.listen
        self.unix_path = "" if url else where.unix_path
        host = "localhost" if where.unix_path else str(where)
        self.url = url or f"http://{host}{endpoint.path}"

    async def send(
        self,
        make_body: Callable[[], bytes],
        token: str | None,
        replies: Counter[Reply],
        *,
        count: int = 1,
        rate: float | None = None,
    ) -> None:
        """Send `count` webhooks, each with a body of its own making, and count in `replies` how
        often each answer came."""
        client = HttpClient()
        room = asyncio.Semaphore(IN_FLIGHT)

        async def send_one() -> None:
            request = self.request(
                make_body(), token or f"{samples.SENDER}-{secrets.token_hex(16)}"
            )
            answer = await client.send(request, TIMEOUT_S, unix_path=self.unix_path)
            text = answer.error or answer.body.decode("utf-8", "replace")
            if count > 1:  # equal answers are counted together
                text = re.sub(r'"event":\d+,', "", text)
            replies[Reply(answer.status, text)] += 1
            shown.advance(task)
            room.release()

        try:
            with progress(silent=count == 1) as shown:
                task = shown.add_task("sending", total=count)
                async with asyncio.TaskGroup() as group:
                    for number in range(count):
                        if rate and number:
                            await asyncio.sleep(1 / rate)
                        await room.acquire()
                        group.create_task(send_one())
        finally:
            client.close()

    def request(self, body: bytes, token: str) -> Request:
        """Return the request as Prembly makes it."""
        form = self._endpoint.forms[0]
        headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", f"{samples.SENDER}/{__version__}"),
            (form.header, signature.sign(body, self._key, form)),
            (signature.TOKEN_HEADER, token),
        ]
        return Request(self.url, headers, body)


def _report(replies: Counter[Reply], *, count: int, interrupted: bool) -> None:
    """Print the answers and what they mean, and end with the exit status of the worst."""
    for reply, times in replies.most_common():
        line = " ".join(str(reply).split())
        text = clean(f"{line[:MAX_SHOWN]}…" if len(line) > MAX_SHOWN else line)
        click.echo(f"{times} times {text}" if count > 1 else text)
    if any('"duplicate":true' in reply.text for reply in replies):
        click.echo(DUPLICATE, err=True)
    failed = {reply.status for reply in replies} - {200}
    for words in dict.fromkeys(map(_meaning, sorted(failed))):
        click.echo(words, err=True)
    if interrupted:
        raise PremblydError(f"Interrupted: {replies.total()} of {count} were answered.")
    if failed:
        raise SystemExit(TryAgainError.exit_code if failed & TRY_AGAIN else 1)


def _meaning(status: int) -> str:
    """Return what an answer of this status means; 0: there is none."""
    if status == 0:
        return _NO_ANSWER
    return _REDIRECTED if 300 <= status < 400 else WORDS.get(status, _OTHER)
