"""The request of an http hook: the exact body, an envelope or a selection, signed on request."""

import base64
from typing import Any

from premblyd import jsontext, standardwebhooks, times
from premblyd.config.hooks import HttpHook, Selection
from premblyd.config.models import Endpoint
from premblyd.errors import PremblydError
from premblyd.expressions import EvaluationError
from premblyd.httpclient import Request
from premblyd.prembly import bodies, signature
from premblyd.prembly.webhook import Webhook
from premblyd.run.invocation import Invocation

# In the unit of jsontext.weight: twice what the largest body weighs. The steps of an expression
# don't bound its result: a few doublings make more than any memory holds.
MAX_SELECTED = 2 * (bodies.MAX_VALUES + (16 << 20 >> 6))


CONFIRMED = "premblyd-confirmed"  # a header: Prembly's answer agrees with the event
CONFIRMED_FIELDS = "premblyd-confirmed-fields"  # and states these facts


class BodyError(PremblydError):
    """The hook's body can't be made for this event. The text says why, and quotes nothing."""


def make_request(
    hook: HttpHook, invocation: Invocation, endpoint: Endpoint | None, now_s: float
) -> Request:
    """Return the exact request for one attempt. Raise BodyError when its body can't be made."""
    body, content_type = _body(hook, invocation)
    headers = [("Content-Type", content_type), (standardwebhooks.ID, invocation.id)]
    if hook.send == "raw" and invocation.webhook:
        headers += _prembly_headers(invocation.webhook, endpoint)
    timestamp = str(int(now_s))
    headers.append((standardwebhooks.TIMESTAMP, timestamp))
    if invocation.confirmed_fields is not None:
        headers.append((CONFIRMED, "true"))
        headers.append((CONFIRMED_FIELDS, ",".join(invocation.confirmed_fields)))
    if hook.sign_with is not None:
        key = standardwebhooks.key_of(hook.sign_with.reveal())
        signed = standardwebhooks.sign(key, invocation.id, timestamp, body)
        headers.append((standardwebhooks.SIGNATURE, signed))
    own = {name.lower() for name in hook.headers}
    headers = [(name, value) for name, value in headers if name.lower() not in own]
    headers += [(name, secret.reveal()) for name, secret in hook.headers.items()]
    return Request(hook.url.reveal(), headers, body)


def _body(hook: HttpHook, invocation: Invocation) -> tuple[bytes, str]:
    """Return the body and its type."""
    if isinstance(hook.send, Selection):
        try:
            value = hook.send.select.search(invocation.context())
        except EvaluationError as error:
            raise BodyError(f"`select` failed for this event: {error}") from None
        if jsontext.weight(value, MAX_SELECTED) > MAX_SELECTED:
            raise BodyError("`select` makes too much of this event")
    elif hook.send == "event" and invocation.webhook:
        value = _envelope(invocation, invocation.webhook)
    else:
        return invocation.body, invocation.content_type
    try:
        return jsontext.dumps(value), "application/json"
    except ValueError:
        raise BodyError("the body can't be written as JSON") from None


def _envelope(invocation: Invocation, webhook: Webhook) -> dict[str, Any]:
    envelope: dict[str, Any] = {
        "event": invocation.event_id,
        "key": invocation.event_key,
        "received_at": times.iso(webhook.received_at_ms),
    }
    if invocation.confirmed_fields is not None:
        envelope["confirmed_fields"] = list(invocation.confirmed_fields)
    envelope |= invocation.context()
    if webhook.document is None:
        envelope["body_base64"] = base64.b64encode(webhook.body).decode("ascii")
    return envelope


def _prembly_headers(webhook: Webhook, endpoint: Endpoint | None) -> list[tuple[str, str]]:
    """Make Prembly's own headers again, so that an existing handler works behind premblyd. The
    signature is made anew because it is not stored: the legacy one is the key itself."""
    headers = []
    scheme, _, key_name = webhook.verified_by.partition(":")
    key = endpoint.key_texts.get(key_name) if endpoint else None
    if endpoint and key:
        value = signature.sign(webhook.body, key, signature.Scheme(scheme))
        headers.append((endpoint.header, value))
    token = webhook.token
    if token and token.isascii() and token.isprintable():
        headers.append((signature.TOKEN_HEADER, token))
    return headers
