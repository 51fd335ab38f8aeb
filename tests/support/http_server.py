"""A receiver on the loopback, with and without TLS, that keeps what it got."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = [(name.lower(), value) for name, value in self.headers.items()]
        self.server.requests.append((self.path, headers, body))
        self.server.answer(self)

    def reply(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def reply_when_released(self) -> None:
        self.server.released.wait()
        self.reply()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    request_queue_size = 200

    def __init__(
        self, answer: Callable[[Any], object], handler: type[BaseHTTPRequestHandler] = Handler
    ) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.answer = answer
        self.released = threading.Event()
        self.requests: list[tuple[str, list[tuple[str, str]], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hook?token=hush"

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is expected here."""

    @property
    def got(self) -> tuple[dict[str, str], bytes]:
        """The one request's headers and body."""
        ((_, headers, body),) = self.requests
        assert len(dict(headers)) == len(headers), "a header came twice"
        return dict(headers), body


@contextmanager
def at_work(server: BaseServer, released: threading.Event) -> Iterator[None]:
    """Have a server serve meanwhile; then release its handlers that wait."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        released.set()
        server.shutdown()
        thread.join()


@contextmanager
def serving(
    answer: Callable[[Handler], object] = Handler.reply, certificate: Path | None = None
) -> Iterator[Server]:
    """Run a server that answers each POST by `answer`; by TLS if it has a `certificate`."""
    with Server(answer) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.url = server.url.replace("http:", "https:")
        with at_work(server, server.released):
            yield server


class Answering:
    """A socket that answers every connection with the same bytes, whatever it is sent."""

    def __init__(self, answer: bytes, again: bytes) -> None:
        self._answer, self._again = answer, again
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, which `close` would not
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:  # closed
                return
            with client, contextlib.suppress(OSError):  # it hangs up when it has read enough
                self.requests.append(client.recv(1 << 20))
                client.sendall(self._answer)
                while self._again:
                    client.sendall(self._again)


@contextmanager
def answering(answer: bytes, again: bytes = b"") -> Iterator[Answering]:
    """Answer with `answer`, then with `again` without an end."""
    target = Answering(answer, again)
    try:
        yield target
    finally:
        target.close()


def self_signed(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1 that nobody trusts, in one file with its key. Raise
    UnavailableError without openssl."""
    if not shutil.which("openssl"):
        from tests.support.needs import UnavailableError  # needs pytest, which a machine lacks

        raise UnavailableError("needs openssl")
    pem, certificate = folder / "self-signed.pem", folder / "certificate"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    names = ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(pem), "-out", str(certificate)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    pem.write_text(pem.read_text() + certificate.read_text())
    return pem
