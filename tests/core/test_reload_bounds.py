"""A reload of thousands of actions keeps the loop waiting for a moment only."""

import asyncio
import contextlib
import ctypes
import json
import sys
from collections import Counter
from pathlib import Path
from threading import get_ident
from types import FrameType

from tornado.curl_httpclient import CurlAsyncHTTPClient

from premblyd.config.load import load_config
from premblyd.daemon import Daemon
from premblyd.ground.databases import DatabaseAddress
from tests.support.configuration import configuration
from tests.support.database import url_of

ACTIONS = 400
CALLS_FOR_AN_ACTION = 4  # a few: how many of its hooks may run at once


def many_actions(folder: Path, place: DatabaseAddress) -> Daemon:
    path = folder / "premblyd.yaml"
    http = {"url": "http://127.0.0.1:1/"}
    actions = [{"name": f"a-{n}", "response_codes": ["00"], "http": http} for n in range(ACTIONS)]
    changes = {"actions": actions, "database": url_of(place), "listen": f"unix:{folder}/socket"}
    path.write_text(json.dumps(configuration(**changes)))
    return Daemon(load_config(path), path)


class Raised(BaseException):
    """In this thread, by itself."""


def forget_what_was_withdrawn() -> None:
    """Let CPython know that no thread is to raise anything. Where another test of this process has
    withdrawn what one was to raise, 3.11 would go on for ever at the next call it profiles."""
    with contextlib.suppress(Raised):
        raised = ctypes.py_object(Raised)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(get_ident()), raised)
        for _ in range(1000):
            get_ident()


def test_a_reload_does_little_on_the_loop_for_an_action(
    tmp_path: Path, place: DatabaseAddress
) -> None:
    """The routing is made beside it, the counts of known actions stay, and so do libcurl's handles:
    of 20,000 actions, to make them anew held it for 580 ms."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_call"):
            calls[frame.f_code.co_qualname] += 1

    forget_what_was_withdrawn()

    async def reload() -> None:
        async with many_actions(tmp_path, place) as daemon:
            reread = await asyncio.to_thread(daemon.read)
            sys.setprofile(count)
            daemon._configure(reread)
            sys.setprofile(None)

    asyncio.run(reload())
    assert calls.total() < CALLS_FOR_AN_ACTION * ACTIONS
    made = {name.partition(".")[0] for name in calls}
    assert made.isdisjoint({"Routing", "Actions", "Histogram", CurlAsyncHTTPClient.__name__})
