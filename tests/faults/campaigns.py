"""What the campaigns that harm daemons in cycles share: their command line, and those who send."""

import argparse
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol, TypeVar

from tests.faults.daemon import table


class Cycles(Protocol):
    """A campaign of any number of cycles."""

    figures: Counter[str]

    def run(self, cycles: int, *, say_every: int = 0) -> list[str]:
        """Run it; return which promises were broken."""
        ...


Campaign = TypeVar("Campaign", bound=Cycles)
ANY = -1  # as a seed


def arguments(doc: str | None, **defaults: float) -> argparse.Namespace:
    """Return the numbers of the command line, each of its default's kind."""
    parser = argparse.ArgumentParser(description=doc)
    for name, default in defaults.items():
        value = random.randrange(1 << 30) if default == ANY else default
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()


def main(
    doc: str | None,
    make: Callable[[ExitStack, argparse.Namespace], Campaign],
    *,
    cycles: int,
    say_every: int,
    more: Callable[[Campaign], Mapping[str, object]] = lambda _: {},
    **numbers: float,
) -> None:
    """Run the campaign that `make` makes of a stack, for what it opens, and of the command line,
    and print its figures, with `more` of them."""
    asked = arguments(doc, cycles=cycles, seed=ANY, **numbers)
    start = time.monotonic()
    with ExitStack() as opened:
        campaign = make(opened, asked)
        problems = campaign.run(asked.cycles, say_every=say_every)
    print(f"{asked.cycles} cycles, seed {asked.seed}, {time.monotonic() - start:.0f} s")
    table({**campaign.figures, **more(campaign), "broken promises": len(problems)})
    end(problems)


def end(problems: Sequence[str]) -> None:
    """Exit with the promises that were broken, if any was."""
    if problems:
        raise SystemExit("\n".join(problems))


class Sender(Protocol):
    """A thread that sends until it is told to stop."""

    stopping: threading.Event

    def start(self) -> None: ...

    def join(self) -> None: ...


@contextlib.contextmanager
def sending(clients: Sequence[Sender]) -> Iterator[None]:
    """Let the clients send for as long as it is entered."""
    for client in clients:
        client.start()
    yield
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join()


def count_cycles(cycles: int, say_every: int, so_far: Callable[[], object]) -> Iterator[int]:
    """Yield the number of each cycle, and say now and then what there is after it."""
    for cycle in range(1, cycles + 1):
        yield cycle
        if say_every and cycle % say_every == 0:
            print(f"cycle {cycle}: {so_far()}", flush=True)
