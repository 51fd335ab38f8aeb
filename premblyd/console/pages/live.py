"""Server-sent events: the stream that pages listen to."""

from tornado.iostream import StreamClosedError

from premblyd import jsontext
from premblyd.console.handler import Handler, plain
from premblyd.record.statistics import Pulse

SESSION_EVERY = 30  # rounds: then it is asked whether the session still is one


class LiveStream(Handler):
    """Sends the pulse of the record whenever it changes, for as long as the session lasts."""

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream; charset=UTF-8")
        self.set_header("X-Accel-Buffering", "no")  # nginx passes it on at once
        watching = self.services.live.watch()
        rounds = 0
        try:
            async for pulse in watching:
                rounds += 1
                if rounds % SESSION_EVERY == 0:
                    self.begin_anew()
                    if await self.find_session() is None:
                        return
                self.write(_message(pulse))
                await self.flush()
        except StreamClosedError:
            return
        finally:
            await watching.aclose()


def _message(pulse: Pulse | None) -> bytes:
    if pulse is None:
        return b": nothing new\n\n"
    return b"event: pulse\ndata: " + jsontext.dumps(plain(pulse)) + b"\n\n"
