"""Sends signed webhooks at a steady rate, each over a connection of its own, and prints what came
of them as JSON. Runs in the machine, with nothing but Python's own library."""

import argparse
import asyncio
import base64
import hmac
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Unanswered: what comes in two seconds. A machine that can't keep up would else have more and more
# of them, until the first have waited for too long.
MOST_AT_ONCE = 400


@dataclass
class Tally:
    answers: dict[str, int] = field(default_factory=dict)
    events: list[int] = field(default_factory=list)
    slowest_s: float = 0.0

    def count(self, answer: str) -> None:
        self.answers[answer] = self.answers.get(answer, 0) + 1


async def send(host: str, port: int, key: str, body: bytes, tally: Tally) -> None:
    signature = base64.b64encode(hmac.digest(key.encode(), body, "sha256")).decode()
    head = (
        "POST /webhooks/prembly HTTP/1.1\r\n"
        f"Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"x-prembly-signature: {signature}\r\nConnection: close\r\n\r\n"
    )
    started = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
    except OSError as error:
        tally.count(type(error).__name__)
        return
    tally.slowest_s = max(tally.slowest_s, time.monotonic() - started)
    tally.count(answer[9:12].decode() or "closed without an answer")
    if found := re.search(rb'"event":(\d+)', answer):
        tally.events.append(int(found[1]))


def bodies(prefix: str) -> Iterator[bytes]:
    for number in itertools.count(1):
        verification = {"status": "VERIFIED", "reference": f"{prefix}-{number}"}
        body = {"status": True, "response_code": "00", "verification": verification}
        yield json.dumps(body).encode()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--until", type=Path, required=True, help="stop when this file is there")
    parser.add_argument("--at-most", type=float, default=120, help="stop after so many seconds")
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--prefix", default="load")
    options = parser.parse_args()
    key = options.key.read_text().strip()
    tally, begun = Tally(), time.monotonic()
    tasks: set[asyncio.Task[None]] = set()
    for number, body in enumerate(bodies(options.prefix)):
        due = begun + number / options.rate
        if options.until.exists() or due - begun > options.at_most:
            break
        await asyncio.sleep(max(0, due - time.monotonic()))
        while len(tasks) >= MOST_AT_ONCE:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(send("127.0.0.1", options.port, key, body, tally))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    sending_s = time.monotonic() - begun
    await asyncio.gather(*tasks)
    print(json.dumps({**vars(tally), "sent": number, "sending_s": sending_s}))


if __name__ == "__main__":
    asyncio.run(main())
