"""What a complete body is: whose, what it says, and which actions it is for."""

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from tornado.httputil import HTTPHeaders

from premblyd.config.models import Action, Endpoint
from premblyd.expressions import Budget, EvaluationError, MustBeMovedError
from premblyd.logs import get_logger
from premblyd.prembly import bodies, payload, signature
from premblyd.prembly.payload import FieldName
from premblyd.prembly.webhook import Webhook
from premblyd.receiver.headers import kept_headers

Match = Callable[[Webhook, Budget | None], Sequence[Action]]
TRIAL_STEPS = 5_000  # of expressions, on the loop: 3 ms
log = get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A complete request for an endpoint. Nobody knows yet whether Prembly sent it."""

    endpoint: Endpoint
    received_at_ms: int
    remote_ip: str
    headers: HTTPHeaders
    body: bytes


class Recognised(NamedTuple):
    """An authentic webhook, and the actions that it is for."""

    webhook: Webhook
    actions: Sequence[Action]


Take = Callable[[Callable[[], Recognised]], None]


class Recogniser:
    """Recognises bodies: on the loop, or beside it where that would keep it from everyone else."""

    def __init__(self) -> None:
        # One thread: two would share one interpreter all the same, and need twice the memory.
        self._aside = ThreadPoolExecutor(1, "premblyd-bodies")
        self._aside.submit(int).result()  # its thread is there before the machine lacks any

    def close(self) -> None:
        """End the thread beside the loop as soon as it can be."""
        self._aside.shutdown(wait=False, cancel_futures=True)

    def recognise(self, take: Take, incoming: Incoming, match: Match) -> None:
        """Call `take` with what returns or raises what `recognise` does: at once if it is little
        work, else later. When `take` lets a MustBeMovedError pass, it is called again."""
        work = functools.partial(recognise, incoming, match)
        if len(incoming.body) <= bodies.LARGE_BYTES:
            try:
                return take(work)
            except MustBeMovedError:
                pass
        moved = self.run_aside(functools.partial(work, is_trial=False))
        moved.add_done_callback(lambda future: take(future.result))
        return None

    def run_aside(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Run `work` beside the loop, in turn."""
        return asyncio.get_running_loop().run_in_executor(self._aside, work)


def recognise(incoming: Incoming, match: Match, *, is_trial: bool = True) -> Recognised:
    """Verify the body, read it and find its actions. What it says is logged where an expression
    fails. Raise SignatureError when no key signed it, and MustBeMovedError when a trial is too
    much work for the loop; nothing is logged then."""
    endpoint, headers, body = incoming.endpoint, incoming.headers, incoming.body
    verified_by = signature.verify(
        body, headers[endpoint.header], endpoint.key_texts, endpoint.scheme
    )
    document = bodies.parse(body)
    failed: dict[FieldName, EvaluationError] = {}
    verdict = payload.recognise(
        document, endpoint.fields, budget=_budget(is_trial), failed=failed.__setitem__
    )
    webhook = Webhook(
        endpoint=endpoint.name,
        received_at_ms=incoming.received_at_ms,
        remote_ip=incoming.remote_ip,
        token=headers.get(signature.TOKEN_HEADER) or None,
        headers=kept_headers(headers, endpoint.header),
        body=body,
        verified_by=verified_by,
        verdict=verdict,
    )
    webhook.keep_document(document)
    actions = match(webhook, _budget(is_trial))
    webhook.drop_document()
    for name, error in failed.items():
        log.warning("webhook.field_failed", endpoint=endpoint.name, field=name, error=str(error))
    if document is None and bodies.is_too_complex(body):
        log.warning("webhook.too_complex", endpoint=endpoint.name, body_bytes=len(body))
    _ = webhook.body_sha256  # made here, for a large body is read beside the loop
    return Recognised(webhook, actions)


def _budget(is_trial: bool) -> Budget:
    return Budget(TRIAL_STEPS, is_trial=True) if is_trial else Budget()
