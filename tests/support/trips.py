"""How often a client of PostgreSQL waits for its server: counted by the messages on the wire, which
ask for an answer, and not by time."""

import socket
import struct
from collections import defaultdict

from tests.support.postgresql import Cluster
from tests.support.wire import Wire

Trip = list[str]  # the texts of the statements whose answers the client waits for at once
_UNTYPED = {80877102, 80877103, 80877104}  # codes of requests that come before the first message


class CountingWire(Wire):
    """A wire that notes what each answer that a client waits for was asked with.

    A client waits after Query, Sync and Flush: the server sends nothing for certain before. A Flush
    right behind a Sync asks for nothing more.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._clients: defaultdict[socket.socket, _Client] = defaultdict(_Client)
        super().__init__(cluster)

    def take(self) -> list[Trip]:
        """Return the trips since this was called last. What was answered is among them."""
        taken = [trip for client in self._clients.values() for trip in client.trips]
        for client in self._clients.values():
            client.trips = []
        return taken

    def _see(self, client: socket.socket, data: bytes) -> None:
        self._clients[client].see(data)


class _Client:
    """Reads the messages of one connection (PostgreSQL's documentation, "Message Formats")."""

    def __init__(self) -> None:
        self.trips: list[Trip] = []
        self._asked: Trip = []
        self._texts: dict[bytes, str] = {}  # of prepared statements, by their names
        self._data = b""
        self._is_starting = True

    def see(self, data: bytes) -> None:
        self._data += data
        while self._take_one():
            pass

    def _take_one(self) -> bool:
        start = 0 if self._is_starting else 1
        if len(self._data) < start + 4:
            return False
        end = start + int(struct.unpack_from("!i", self._data, start)[0])
        if len(self._data) < end:
            return False
        kind, content = self._data[:start], self._data[start + 4 : end]
        self._data = self._data[end:]
        if self._is_starting:
            self._is_starting = struct.unpack_from("!i", content)[0] in _UNTYPED
        else:
            self._note(kind, content)
        return True

    def _note(self, kind: bytes, content: bytes) -> None:
        match kind:
            case b"P":
                name, text, _ = content.split(b"\0", 2)
                self._texts[name] = text.decode()
            case b"B":
                _, name, _ = content.split(b"\0", 2)
                self._asked.append(self._texts[name])
            case b"Q":
                self._end([content.rstrip(b"\0").decode()])
            case b"S":
                self._end(self._asked)
            case b"H" if self._asked:
                self._end(self._asked)

    def _end(self, asked: Trip) -> None:
        self.trips.append(asked)
        self._asked = []
