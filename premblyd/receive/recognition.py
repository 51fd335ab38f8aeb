"""Recognising a complete request: who signed it, what it says, and which actions it is for."""

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple, TypeVar

import orjson
from tornado.httputil import HTTPHeaders

from premblyd.config.models import Action, Endpoint
from premblyd.config.routing import Routing
from premblyd.ground.errors import SignatureError, without_frames
from premblyd.ground.expressions import TrialTooLongError
from premblyd.ground.privacy import KEPT_HEADERS
from premblyd.ground.telemetry import tell
from premblyd.prembly import bodies, payload, signature
from premblyd.prembly.bodies import FieldName
from premblyd.prembly.payload import Verdict, Webhook

T = TypeVar("T")


class Incoming(NamedTuple):
    """A complete request for an endpoint. Its signature is not verified yet."""

    endpoint: Endpoint
    received_at_ms: int
    remote_ip: str
    headers: HTTPHeaders
    body: bytes


class Recognised(NamedTuple):
    """An authentic webhook, and the actions that it is for."""

    webhook: Webhook
    actions: Sequence[Action]


class Recogniser:
    """Recognises webhooks: on the loop, or on a thread beside it when the body or the expressions
    take long, because the loop could serve nobody else meanwhile."""

    def __init__(self) -> None:
        # One thread: two would share one interpreter all the same, and need twice the memory.
        self._thread = ThreadPoolExecutor(1, "premblyd-bodies")
        self._thread.submit(int).result()  # starts it now: later the machine may lack threads

    def close(self) -> None:
        """End the thread beside the loop as soon as it can be."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def recognise(
        self, incoming: Incoming, routing: Routing, then: Callable[[Recognised | Exception], None]
    ) -> None:
        """Call `then` with the recognised webhook, or with the exception that says why there is
        none: before this returns if that is little work, else later; never after `close`."""
        if bodies.is_quick(incoming.body):
            outcome = _recognised_or_why_not(incoming, routing, is_trial=True)
            if not isinstance(outcome, TrialTooLongError):
                return then(outcome)
        beside = self.run_beside(functools.partial(_recognised_or_why_not, incoming, routing))
        # Cancelled: the daemon ends without it, and its connection is closed already.
        return beside.add_done_callback(
            lambda future: None if future.cancelled() else then(future.result())
        )

    def run_beside(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Run `work` on the thread beside the loop, after what waits there."""
        return asyncio.get_running_loop().run_in_executor(self._thread, work)


def _recognised_or_why_not(
    incoming: Incoming, routing: Routing, *, is_trial: bool = False
) -> Recognised | Exception:
    try:
        return recognise(incoming, routing, is_trial=is_trial)
    except (SignatureError, TrialTooLongError) as outcome:
        return without_frames(outcome)
    except Exception as error:  # noqa: BLE001  # the exchange answers and reports it
        return error


def recognise(incoming: Incoming, routing: Routing, *, is_trial: bool) -> Recognised:
    """Verify the body, read it and find its actions; log which expressions failed. Raise
    SignatureError when no key signed it, and TrialTooLongError, with nothing logged, when the
    expressions take more steps than a trial may."""
    endpoint, headers, body = incoming.endpoint, incoming.headers, incoming.body
    verified_by = signature.verify(body, headers, endpoint.key_texts, endpoint.forms)
    document = bodies.parse(body)
    failed: dict[FieldName, str] = {}
    verdict = payload.recognise(
        document, endpoint.fields, is_trial=is_trial, failed=failed.__setitem__
    )
    webhook = Webhook(
        endpoint=endpoint.name,
        received_at_ms=incoming.received_at_ms,
        remote_ip=incoming.remote_ip,
        token=headers.get(signature.TOKEN_HEADER) or None,
        headers=_kept_headers(headers, endpoint),
        body=body,
        verified_by=verified_by,
        verdict=verdict,
    )
    webhook.keep_document(document)
    actions = routing.actions_for(webhook, is_trial=is_trial)
    webhook.drop_document()
    for name, error in failed.items():
        tell("webhook.field_failed", endpoint=endpoint.name, field=name, error=error)
    if document is None and bodies.is_too_complex(body):
        tell("webhook.too_complex", endpoint=endpoint.name, body_bytes=len(body))
    _ = webhook.body_sha256  # computed here: of a large body, not on the loop
    return Recognised(webhook, actions)


def as_bytes(webhook: Webhook, routing: Routing) -> Recognised:
    """Return a webhook as bytes that say nothing, for when the tables refuse what it says: else it
    would come, and be refused, again and again."""
    raw = replace(webhook, verdict=Verdict())
    raw.keep_document(None)
    return Recognised(raw, routing.actions_for(raw))


def _kept_headers(headers: HTTPHeaders, endpoint: Endpoint) -> str:
    """Return the headers to store, as JSON: the known harmless ones, never the signature."""
    signatures = [form.header.lower() for form in endpoint.forms]
    kept = [
        pair
        for pair in headers.get_all()
        if (name := pair[0].lower()) in KEPT_HEADERS and name not in signatures
    ]
    return orjson.dumps(kept).decode()
