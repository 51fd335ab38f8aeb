"""What an HTTP hook's receiver sees of Prembly's confirmation."""

import asyncio
import json
from contextlib import closing
from typing import Any

from premblyd.config.models import Endpoint
from premblyd.queue.jobs import Result
from premblyd.run.http import HttpRunner
from premblyd.run.kinds import Invocation
from premblyd.run.process import Children
from tests.support.http_server import serving
from tests.support.jobs import endpoint, hook, invocation, settings


def run(
    url: str, given: Invocation | None = None, to: Endpoint | None = None, **http: Any
) -> Result:
    async def main() -> Result:
        with closing(HttpRunner(Children())) as runner:
            runner.configure(settings(to or endpoint()))
            return await runner.run(hook(http={"url": url, **http}), given or invocation())

    return asyncio.run(main())


def sent(
    given: Invocation, to: Endpoint | None = None, **http: Any
) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body that arrive."""
    with serving() as server:
        assert run(server.url, given, to, **http).outcome == "succeeded"
        return server.got


def test_a_receiver_sees_what_prembly_confirmed() -> None:
    headers, body = sent(invocation(confirmed=("reference", "outcome")), send="event")
    assert headers["premblyd-confirmed"] == "true"
    assert headers["premblyd-confirmed-fields"] == "reference,outcome"
    assert json.loads(body)["confirmed_fields"] == ["reference", "outcome"]
    assert sent(invocation(b"{}", confirmed=()))[0]["premblyd-confirmed"] == "true"
    assert "premblyd-confirmed" not in sent(invocation(b"{}"))[0]
