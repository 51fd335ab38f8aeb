"""A server that keeps what is posted to it in a folder: `sink.py PORT FOLDER`. Runs in the
machine."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path

FOLDER = Path(sys.argv[2])
numbers = count(1)


class Sink(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (FOLDER / f"{next(numbers)}{self.path.replace('/', '-')}").write_bytes(body)
        self.send_response(204)
        self.end_headers()


HTTPServer(("127.0.0.1", int(sys.argv[1])), Sink).serve_forever()
