"""A server's socket as it is from far away.

    python -m tests.bench.far SOCKET MS

prints the port of 127.0.0.1 that leads there. What passes takes half of MS each way, as over a
network: what is sent behind it does not wait for it. It ends with its standard input.
"""

import asyncio
import selectors
import sys


class End(asyncio.Protocol):
    """One end of a connection that is led on to `other`."""

    def __init__(self, way_s: float) -> None:
        self._way_s = way_s
        self.other: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self._early: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        if not self.other.done():
            self._early.append(data)
        elif self._way_s:
            asyncio.get_running_loop().call_later(self._way_s, self.other.result().write, data)
        else:
            self.other.result().write(data)

    def lead_to(self, other: asyncio.Transport) -> None:
        self.other.set_result(other)
        for data in self._early:
            self.data_received(data)

    def connection_lost(self, _: Exception | None) -> None:
        if self.other.done():
            asyncio.get_running_loop().call_later(self._way_s, self.other.result().close)


class Near(End):
    """The client's end, which connects to the server's."""

    def __init__(self, target: str, way_s: float) -> None:
        super().__init__(way_s)
        self._target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connecting = asyncio.create_task(self._connect(transport))

    async def _connect(self, transport: asyncio.BaseTransport) -> None:
        loop = asyncio.get_running_loop()
        server, end = await loop.create_unix_connection(lambda: End(self._way_s), self._target)
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream's transport is expected")
        end.lead_to(transport)
        self.lead_to(server)


async def main(target: str, delay_ms: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Near(target, delay_ms / 2000), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    # epoll, which asyncio takes by itself, waits for whole milliseconds.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(main(sys.argv[1], float(sys.argv[2])))
