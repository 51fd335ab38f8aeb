"""What is logged of webhooks of who was erased."""

import json
from contextlib import closing

from premblyd.ground.privacy import digest_of
from premblyd.store.connections import connect_operator
from tests.core.receive.test_receiver import Send, make_send
from tests.support.erasing import forgetting
from tests.support.logs import Lines
from tests.support.receiving import Reception
from tests.support.webhooks import BODY, signed

__all__ = ["make_send"]  # a fixture
UUID = "0b6ba2e4-6d83-4c43-ae3c-7a3ce2b1a001"


async def test_of_the_erased_digests_are_logged(
    send: Send, reception: Reception, lines: Lines
) -> None:
    with closing(connect_operator(reception.place)) as database:
        database.transact(forgetting(UUID))
    body = BODY.replace(b"r-1", UUID.encode())
    reception.use()
    for _ in range(2):
        answer = await send(body, headers=signed(body))
        assert (answer.code, json.loads(answer.body)["event"]) == (200, 1)
    assert [line["event"] for line in lines] == ["webhook.received", "webhook.duplicate"]
    assert {line["reference"] for line in lines} == {digest_of(UUID)}
    assert [line.get("remote_ip") for line in lines] == [None, None]
