"""A reload leaves nothing in memory: of the configuration before it, nor of what goes on then."""

import asyncio
import gc
import json
from collections import Counter
from pathlib import Path

import pytest

from premblyd.config.load import load_config, models
from premblyd.config.routing import Routing
from premblyd.daemon import Daemon
from premblyd.features.asking.settling import Settling
from premblyd.ground.databases import DatabaseAddress
from premblyd.run.dispatcher import Actions
from tests.support.configuration import configuration, shell
from tests.support.console import CONSOLE
from tests.support.database import url_of
from tests.support.waiting import until

ACTIONS = [
    shell("shell", "true", when="body.a == `1`"),
    {"name": "worker", "response_codes": ["00"], "worker": ["true"]},
    {"name": "http", "response_codes": ["00"], "http": {"url": "http://127.0.0.1:1/"}},
]
CONFIG, ACTION = models()
OF_ONE = Counter({CONFIG: 1, Settling: 1, Routing: 1, Actions: 1, ACTION: len(ACTIONS)})
WHAT_IT_STARTED_WITH = Counter({CONFIG: 1, ACTION: len(ACTIONS)})


def in_memory() -> Counter[type]:
    """Return how many objects there are of each kind that is made of a configuration."""
    kinds = (type(found) for found in gc.get_objects())
    return Counter(kind for kind in kinds if kind in OF_ONE)


@pytest.mark.usefixtures("no_collector")
def test_a_reload_frees_the_configuration_before_it(tmp_path: Path, place: DatabaseAddress) -> None:
    """By itself: the daemon hardly ever looks for what only a cycle keeps. Its routing was in one,
    and kept all of the actions."""
    path = tmp_path / "premblyd.yaml"
    changes = {"database": url_of(place), "listen": f"unix:{tmp_path}/socket", "console": CONSOLE}
    path.write_text(json.dumps(configuration(**changes, actions=ACTIONS)))

    async def run() -> None:
        async with Daemon(load_config(path), path) as daemon:
            for _ in range(4):
                await daemon.reload(await asyncio.to_thread(daemon.read))
            # A claim that is under way may have an earlier one yet.
            await until(lambda: in_memory() == OF_ONE + WHAT_IT_STARTED_WITH)

    asyncio.run(run())
