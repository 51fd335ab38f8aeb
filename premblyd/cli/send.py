"""premblyd send"""

import asyncio
import os
import re
import secrets
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import click

from premblyd.cli.common import config_option
from premblyd.cli.printing import clean, console
from premblyd.errors import PremblydError, TryAgainError
from premblyd.prembly import samples, signature

if TYPE_CHECKING:
    from premblyd.config import Config, Endpoint
    from premblyd.hooks.http_client import Post

T = TypeVar("T")
Said = tuple[int, str]  # a status, 0 for none, and the text
TIMEOUT_S = 30.0
IN_FLIGHT = 16


@click.command()
@click.argument("file", required=False, type=click.File("rb"))
@click.option("--sample", type=click.Choice(samples.NAMES), help="Send this sample (default: api).")
@click.option("--endpoint", "endpoint_name", help="Of this endpoint (default: the first).")
@click.option("--key", "key_name", help="Sign with this key (default: the first).")
@click.option("--url", help="Send here (default: the endpoint of the configured daemon).")
@click.option("--token", help="The token header (default: a new one for each webhook).")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most, a second.")
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
    """FILE holds the exact body; - is standard input. Prembly has no such button, so here is one.

    Exit status 75: the daemon can't be reached, or asked to try again.
    """
    from premblyd import config
    from premblyd.cli import as_service

    if file is not None and sample is not None:
        raise click.UsageError("Give FILE or --sample, not both.")
    # Root signs with the running service's keys, wherever systemd has them from.
    is_for_service = as_service.is_for_service(config_path)
    environ = as_service.environment_of_running() if is_for_service else os.environ
    settings = config.load(config_path, environ=environ)
    endpoint = _named("endpoint", endpoint_name, {one.name: one for one in settings.endpoints})
    key = _named("key", key_name, endpoint.key_texts)
    body = file.read() if file is not None else samples.sample(sample or "api")
    sender = Sender(settings, endpoint, key, url)
    answers = asyncio.run(sender.send(body, token, count, rate))
    _report(answers)


class Sender:
    """Sends signed webhooks to the configured daemon, or to `url`."""

    def __init__(
        self, settings: "Config", endpoint: "Endpoint", key: str, url: str | None = None
    ) -> None:
        self._endpoint = endpoint
        self._key = key
        where = settings.listen
        self._unix_path = "" if url else where.unix_path
        host = "localhost" if where.unix_path else str(where)
        self.url = url or f"http://{host}{endpoint.path}"

    async def send(
        self, body: bytes, token: str | None, count: int = 1, rate: float | None = None
    ) -> "Counter[Said]":
        """Send `count` webhooks and return how often each answer came."""
        from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

        from premblyd.hooks.http_client import HttpClient

        client = HttpClient(IN_FLIGHT)
        answers: Counter[Said] = Counter()
        room = asyncio.Semaphore(IN_FLIGHT)

        async def send_one() -> None:
            post = self.post(body, token or secrets.token_hex(16))
            answer = await client.post(post, TIMEOUT_S, unix_path=self._unix_path)
            text = answer.error or answer.body.decode("utf-8", "replace")
            if count > 1:  # equal answers are counted together
                text = re.sub(r'"event":\d+,', "", text)
            answers[answer.status, text] += 1
            progress.advance(task)
            room.release()

        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
        out = console(stderr=True)
        silent = count == 1 or not out.is_terminal
        with Progress(*columns, console=out, disable=silent, transient=True) as progress:
            task = progress.add_task("sending", total=count)
            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    await room.acquire()
                    group.create_task(send_one())
                    if rate:
                        await asyncio.sleep(1 / rate)
        client.close()
        return answers

    def post(self, body: bytes, token: str) -> "Post":
        """Return the request as Prembly makes it."""
        from premblyd.hooks.http_client import Post

        headers = [
            ("Content-Type", "application/json"),
            (self._endpoint.header, signature.sign(body, self._key, self._endpoint.scheme)),
            (signature.TOKEN_HEADER, token),
        ]
        return Post(self.url, headers, body)


def _named(what: str, name: str | None, choices: "dict[str, T]") -> "T":
    if name is None:
        return next(iter(choices.values()))
    if name not in choices:
        raise PremblydError(
            f"There is no {what} {name}; the configuration has {', '.join(choices)}."
        )
    return choices[name]


def _report(answers: "Counter[Said]") -> None:
    """Print the answers, and end with the exit status of the worst."""
    for (status, text), times in answers.most_common():
        said = f"{status} {clean(text)}" if status else clean(text)
        click.echo(f"{times} times {said}" if answers.total() > 1 else said)
    statuses = {status for status, _ in answers}
    if statuses & {0, 503}:
        raise TryAgainError("Not everything was received. Does the daemon run? `premblyd serve`")
    if statuses != {200}:
        raise SystemExit(1)
