"""premblyd send"""

import asyncio
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

from premblyd import __version__, presence
from premblyd.cli import as_service, caller, config_option
from premblyd.cli.common import count_option, sender_options
from premblyd.cli.printing import clean, progress
from premblyd.config.load import load_config
from premblyd.config.models import Config, Endpoint, named
from premblyd.ground.errors import PremblydError, TryAgainError
from premblyd.ground.httpclient import HttpClient, Request
from premblyd.prembly import samples, signature
from premblyd.presence import Presence

TIMEOUT_S = 30.0
IN_FLIGHT = 16
MAX_COUNT = 1_000_000
MAX_SHOWN = 200  # characters of an answer: premblyd's are shorter
DUPLICATE = (
    "No hook runs for a duplicate. Give the body another reference to send it as a new event, or"
    " run the hooks of the stored event again: `premblyd replay EVENT`."
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: an answer, or (`status` 0) the reason why there is none."""

    status: int
    text: str
    retry_after: str | None = None

    def __str__(self) -> str:
        return f"{self.status} {self.text}" if self.status else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a webhook was sent. `daemon` is the running daemon, if there is one and the webhook was
    sent to it and not to a --url."""

    where: str
    unix_path: str
    is_configured: bool  # where the configuration says, and not at a --url
    daemon: Presence | None
    is_managed: bool  # by systemd

    def how(self) -> dict[str, str]:
        """Return what to do for {start}, {reload}, {restart} and {look} in a text."""
        if self.is_managed:
            return {
                "start": "`sudo systemctl start premblyd.socket premblyd`",
                "reload": "`sudo systemctl reload premblyd`",
                "restart": "`sudo systemctl restart premblyd`",
                "look": "`sudo journalctl -u premblyd -n 20` may say why",
            }
        return {
            "start": "start it with `premblyd serve`",
            "reload": "send the daemon SIGHUP",
            "restart": "start the daemon again",
            "look": "is it running? Its log may say why",
        }


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reply means in words, and whether sending again later may work."""

    words: str
    may_work_later: bool = False


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
    # Root signs with the running service's keys, wherever systemd has them from.
    is_for_service = as_service.is_for_service(config_path)
    environ = as_service.environment_of_running() if is_for_service else os.environ
    settings = load_config(config_path, environ=environ)
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
    target = _target(settings, config_path, sender)
    _report(replies, target, count=count, interrupted=interrupted)


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
        self.is_configured = url is None
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
            replies[Reply(answer.status, text, answer.retry_after)] += 1
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
        headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", f"{samples.SENDER}/{__version__}"),
            (self._endpoint.header, signature.sign(body, self._key, self._endpoint.scheme)),
            (signature.TOKEN_HEADER, token),
        ]
        return Request(self.url, headers, body)


def _target(settings: Config, config_path: Path, sender: Sender) -> Target:
    daemon = None
    if sender.is_configured:
        daemon = presence.find(settings.database, config_path)
    return Target(
        where=str(settings.listen),
        unix_path=sender.unix_path,
        is_configured=sender.is_configured,
        daemon=daemon,
        is_managed=as_service.is_managed(config_path),
    )


def _shortened(text: str) -> str:
    """Return an answer as one line; of another program's page, how it begins."""
    line = " ".join(text.split())
    return f"{line[:MAX_SHOWN]}…" if len(line) > MAX_SHOWN else line


def _report(replies: Counter[Reply], target: Target, *, count: int, interrupted: bool) -> None:
    """Print the answers and what they mean, and end with the exit status of the worst."""
    for reply, times in replies.most_common():
        text = clean(_shortened(str(reply)))
        click.echo(f"{times} times {text}" if count > 1 else text)
    if any('"duplicate":true' in reply.text for reply in replies):
        click.echo(caller.as_called(DUPLICATE), err=True)
    found = [explained for reply in replies if (explained := meaning(reply, target))]
    for words in dict.fromkeys(explained.words for explained in found):
        click.echo(caller.as_called(clean(words)), err=True)
    if interrupted:
        raise PremblydError(f"Interrupted: {replies.total()} of {count} were answered.")
    if any(explained.may_work_later for explained in found):
        raise SystemExit(TryAgainError.exit_code)
    if found:
        raise SystemExit(1)


# By an answer's status, or why there is none, as the http client says it. {reload}, {restart} and
# {look}: what `Target.how` says.
_REFUSED = "connection refused or unreachable"
_REDIRECTED = Meaning(
    "This is a redirect, and it was not followed. Prembly follows it (but for workflow runs), takes"
    " any page that answers 200 for a delivery, and never sends that event again. Give Prembly the"
    " URL of the endpoint itself."
)
_NO_DAEMON_BEHIND = Meaning("A proxy in front gets no answer from the daemon: {look}.", True)
_MEANINGS = {
    404: Meaning(
        "No endpoint has this path. After a change of `path`: {reload}."
        " Behind a proxy: does it pass the path on unchanged?"
    ),
    413: Meaning("The body is larger than `max_body`, or than the limit of a proxy in front."),
    502: _NO_DAEMON_BEHIND,
    503: Meaning(
        "Without Retry-After this comes from a proxy in front: is the daemon behind it running?",
        True,
    ),
    504: _NO_DAEMON_BEHIND,
    "the TLS certificate is not trusted": Meaning(
        "The certificate is not trusted here, so nothing was sent. Is it expired, of another name,"
        " or of a private authority? Prembly's side would hardly trust it either."
    ),
    "the TLS handshake failed": Meaning("Is https right for this port?"),
    "the request can't be sent as configured": Meaning(
        "Is the URL right, and the token plain text?"
    ),
}
_OTHER_ANSWER = Meaning("This is not an answer of premblyd. Is the URL right?")
_OTHER_REASON = Meaning(
    "No answer came. Is the URL right, https or http too, and is it premblyd that listens there?",
    True,
)


def meaning(reply: Reply, target: Target) -> Meaning | None:
    """Return what `reply` means; None for a 200."""
    if reply.status == 200:
        return None
    if reply.status == 401:
        return Meaning(_refused(target))
    if reply == Reply(0, _REFUSED):
        return Meaning(_unreachable(target), True)
    if reply.status == 503 and reply.retry_after:
        return Meaning(
            "The daemon is running, but could not store it: the disk is full, the database is"
            " locked or can't be reached, or too much is in flight. Its log says which. Try again"
            f" in {reply.retry_after} s.",
            True,
        )
    if 300 <= reply.status < 400:
        return _REDIRECTED
    other = _OTHER_ANSWER if reply.status else _OTHER_REASON
    found = _MEANINGS.get(reply.status or reply.text, other)
    return Meaning(found.words.format(**target.how()), found.may_work_later)


def _unreachable(target: Target) -> str:
    if target.unix_path and not Path(target.unix_path).exists():
        return f"There is no socket {target.unix_path}. {_no_daemon(target)}"
    if target.unix_path and not os.access(target.unix_path, os.W_OK):
        return f"You may not connect to {target.unix_path}: use sudo."
    if not target.is_configured:
        return "Nothing listens there, or a firewall is in between."
    return _no_daemon(target)


def _no_daemon(target: Target) -> str:
    if target.daemon is not None:
        return (
            f"The running daemon (pid {target.daemon.pid}) listens on"
            f" {', '.join(target.daemon.listen)}, not on {target.where}:"
            " `premblyd check` says more."
        )
    return f"No daemon listens on {target.where}: {target.how()['start']}."


def _refused(target: Target) -> str:
    return (
        "The receiver has another key for this signature (or `allow_ips` excludes this address;"
        f" its log says). After a change of the key: {target.how()['restart']}."
    )
