"""A reload leaves nothing in memory: of the configuration before it, nor of what goes on then."""

import asyncio
import gc
import json
import weakref
from collections import Counter
from pathlib import Path

import pytest

from premblyd import process
from premblyd.ask.settling import Settling
from premblyd.config.load import load_config
from premblyd.config.models import Action, Config
from premblyd.daemon import Daemon
from premblyd.databases import DatabaseAddress
from premblyd.rereading import Rereading
from premblyd.routing import Routing
from premblyd.run.dispatcher import Actions
from tests.support.configuration import configuration, shell
from tests.support.console import CONSOLE
from tests.support.database import url_of

OF_ONE_CONFIGURATION = (Config, Settling, Rereading, Routing, Actions, Action)
ACTIONS = [
    shell("shell", "true", when="body.a == `1`"),
    {"name": "worker", "response_codes": ["00"], "worker": ["true"]},
    {"name": "http", "response_codes": ["00"], "http": {"url": "http://127.0.0.1:1/"}},
]


def in_memory() -> Counter[str]:
    kinds = (type(found) for found in gc.get_objects())
    return Counter(kind.__name__ for kind in kinds if kind in OF_ONE_CONFIGURATION)


@pytest.mark.usefixtures("no_collector")
def test_each_reload_frees_the_configuration_before_it(
    tmp_path: Path, place: DatabaseAddress
) -> None:
    """By itself: the daemon hardly ever looks for what only a cycle keeps. Its routing was in one,
    and kept all of the actions."""
    path = tmp_path / "premblyd.yaml"
    changes = {"database": url_of(place), "listen": f"unix:{tmp_path}/socket", "console": CONSOLE}
    path.write_text(json.dumps(configuration(**changes, actions=ACTIONS)))

    async def after_reloads(daemon: Daemon, count: int) -> Counter[str]:
        for _ in range(count):
            await daemon.reload(await asyncio.to_thread(daemon.read))
        return in_memory()

    async def run() -> None:
        async with Daemon(load_config(path), path) as daemon:
            once = await after_reloads(daemon, 1)
            assert once.keys() == {kind.__name__ for kind in OF_ONE_CONFIGURATION}
            assert await after_reloads(daemon, 3) == once

    asyncio.run(run())


class Page:
    """What a request of the console leaves: it knows itself, through others."""

    itself: "Page"


def test_what_ends_while_a_file_is_read_is_found_by_the_collector() -> None:
    """It was frozen with what was read: at each reload under load, a little for ever."""
    left: list[weakref.ref[Page]] = []

    def read() -> None:
        page = Page()
        page.itself = page
        left.append(weakref.ref(page))

    asyncio.run(process._beside_the_loop(read))
    gc.collect()
    assert [page() for page in left] == [None]
