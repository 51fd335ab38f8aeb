"""A network between a daemon and its PostgreSQL server, which a test can cut."""

import contextlib
import socket
import threading
from typing import Self

from premblyd.features.postgresql.settings import Server
from tests.support.postgresql import Cluster


class Wire:
    """A port on the loopback that passes bytes on to a server's socket.

    `is_cut`: bytes are lost both ways, and nobody is told, as in a network that fails.
    `loses_answer_to`: after these bytes of a client, the connection ends once the server answers.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._target = cluster.folder / f".s.PGSQL.{cluster.port}"
        self.is_cut = False
        self.loses_answer_to: bytes | None = None
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _shut(self._listening, *self._open)

    def server(self, database: str, user: str, more: str = "") -> Server:
        """Return the database behind this wire; `more` is of the URL's query."""
        port = self._listening.getsockname()[1]
        return Server(f"postgresql://{user}@127.0.0.1:{port}/{database}?{more}")

    def break_all(self) -> None:
        """End all connections at once; new ones may come."""
        _shut(*self._open)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._target))
        except OSError:
            _shut(client)
            return
        self._open += [client, server]
        lost = threading.Event()
        for source, target in ((client, server), (server, client)):
            work = (source, target, lost, source is client)
            threading.Thread(target=self._pump, args=work, daemon=True).start()

    def _see(self, client: socket.socket, data: bytes) -> None:
        """Look at what a client sends, before it goes on."""

    def _pump(
        self, source: socket.socket, target: socket.socket, lost: threading.Event, is_client: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self.is_cut:
                    continue
                if is_client:
                    self._see(source, data)
                    if self.loses_answer_to and self.loses_answer_to in data:
                        lost.set()
                if not is_client and lost.is_set():
                    break
                target.sendall(data)
        if not self.is_cut:
            _shut(source, target)


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
