"""The peer of the first row: a Tornado handler that stores nothing and checks nothing.

    python -m tests.bench.bare

prints the port of 127.0.0.1 on which it listens, and ends with its standard input.
"""

import asyncio
import sys

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from tests.support.webhooks import PATH


class Handler(RequestHandler):
    def post(self) -> None:
        self.finish({"status": "received"})


async def main() -> None:
    sockets = bind_sockets(0, "127.0.0.1", backlog=1024)
    HTTPServer(Application([(PATH, Handler)])).add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
