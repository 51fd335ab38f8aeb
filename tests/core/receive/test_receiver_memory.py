"""Nothing of a webhook stays in memory when its request is over."""

import gc
import json
from typing import Any

import pytest

from premblyd.config.routing import Routing
from premblyd.ground.errors import PremblydError
from premblyd.prembly import bodies
from premblyd.prembly.payload import Webhook
from premblyd.receive.recognition import Incoming
from tests.support.configuration import shell
from tests.support.database import away
from tests.support.receiving import Client, Reception
from tests.support.waiting import until
from tests.support.webhooks import BODY, signed, webhook

pytestmark = pytest.mark.usefixtures("http_server", "no_collector")
LARGE = json.dumps({"reference": "r-large", "x": "x" * (bodies.LARGE_BYTES + 1)}).encode()
# A small body over which an expression takes more steps than a trial has.
MANY = json.dumps({"reference": "r-many", "a": [0] * 20_000}).encode()
GREEDY = "body.a[?@ == `0`] | [?@ == `0`] | [?@ == `0`]"


def in_memory() -> list[object]:
    """Return what is in memory of webhooks, those of other tests too."""
    kept = (Incoming, Webhook, PremblydError)
    return [found for found in gc.get_objects() if isinstance(found, kept)]


def fail(*_: object, **__: object) -> list[Any]:
    raise ZeroDivisionError


@pytest.mark.parametrize("body", [BODY, LARGE, MANY], ids=["small", "large", "greedy"])
async def test_nothing_of_a_webhook_stays_in_memory_whatever_its_answer(
    http_port: int, reception: Reception, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """What waits for the collector is as good as kept: it comes rarely, and who knows no more than
    the path may send a hundred times 16 MiB before."""

    async def leaves_nothing(status: int, headers: dict[str, str] | None = None) -> None:
        client = await Client.to(http_port)
        await client.send(webhook(body, headers))
        assert (await client.answer()).status == status
        await client.close()
        await until(lambda: {id(found) for found in in_memory()} <= others)

    before = in_memory()  # kept, so that nothing else gets their numbers
    others = {id(found) for found in before}
    fields = {"status": "sum(reference)"}  # it fails
    reception.use(endpoint={"fields": fields}, actions=[shell("greedy", "true", when=GREEDY)])
    await leaves_nothing(200)
    await leaves_nothing(401, signed(body, "another key"))
    with away(reception.place):
        await leaves_nothing(503)
    monkeypatch.setattr(Routing, "actions_for", fail)
    await leaves_nothing(503)
