"""Requests over HTTP: sent by a client of Python's own, or as bytes for a raw socket."""

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection(http.client.HTTPConnection):
    """To a TCP port, or to a unix socket's path."""

    def __init__(self, address: str) -> None:
        self._unix_path = address.removeprefix("unix:") if address.startswith("unix:") else ""
        super().__init__("localhost" if self._unix_path else address)

    def connect(self) -> None:
        if not self._unix_path:
            return super().connect()
        self.sock = socket.socket(socket.AF_UNIX)
        return self.sock.connect(self._unix_path)


def request(address: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    """Send one request. Raise OSError or HTTPException when no answer comes."""
    connection = Connection(address)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
