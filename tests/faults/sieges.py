"""Requests that begin and never end, begun again as soon as the daemon ends them."""

import contextlib
import socket
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.waiting import wait_until
from tests.support.webhooks import head

MADE_UP = {"x-prembly-signature": "made up"}


@dataclass(frozen=True, slots=True)
class Plan:
    """How many begin, from how many addresses, and how much of a body each sends."""

    name: str
    connections: int
    addresses: int
    body_bytes: int = 0


class Siege:
    """A thread that carries out a plan while the context lasts."""

    def __init__(self, address: str, plan: Plan) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._plan = plan
        self._declared = head(MADE_UP | {"Content-Length": str(plan.body_bytes + 1)})
        self._clients: list[socket.socket | None] = [None] * plan.connections
        self._all_begun = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._besiege)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(self._all_begun.is_set)
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for client in self._clients:
            if client is not None:
                client.close()

    def _besiege(self) -> None:
        while not self._over.wait(0.02):
            for number, client in enumerate(self._clients):
                if client is None or _has_ended(client):
                    self._clients[number] = self._begin(
                        f"127.0.0.{2 + number % self._plan.addresses}"
                    )
            self._all_begun.set()

    def _begin(self, ip: str) -> socket.socket | None:
        with contextlib.suppress(OSError):
            client = socket.create_connection(self._address, source_address=(ip, 0))
            with contextlib.suppress(OSError):
                client.sendall(self._declared + bytes(self._plan.body_bytes))
            client.setblocking(False)
            return client
        return None


def _has_ended(client: socket.socket) -> bool:
    """Return whether the daemon has answered or closed; then close it too."""
    try:
        client.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        pass
    client.close()
    return True
