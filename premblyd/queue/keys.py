"""The keys that tell what is the same: of an event, and of what `once` runs only once.

Each is a digest, so that it has a fixed length and shows nothing of what it was made from.
"""

import hashlib
import secrets
from typing import Literal, NamedTuple

from premblyd.prembly import events
from premblyd.prembly.payload import Outcome, Webhook, same_id

By = Literal["body", "token"]  # see config.inquiries.Duplicates


class EventKeys(NamedTuple):
    """By which an event is known: two webhooks with the same key are duplicates."""

    own: str  # with which it is stored
    earlier: str | None  # with which version 0.1 would have stored it, if that is another


def event_keys(webhook: Webhook, by: By = "body") -> EventKeys:
    """Return the keys of `webhook`.

    By body: endpoint and body, if the body has an id of its own. Nobody signs the token, so whoever
    saw a webhook can send it again with another. By token, or without such an id: endpoint, token
    and body, which is the rule of version 0.1. The token alone would not tell: PENDING and the
    later VERIFIED of one verification may share it.

    With nothing to go by the key is random, because small bodies of different verifications may
    be the same bytes.
    """
    verdict = webhook.verdict
    if by == "body" and (verdict.reference or verdict.session_id):
        earlier = _with_token(webhook, webhook.token) if webhook.token else None
        return EventKeys(_with_token(webhook, ""), earlier)
    if webhook.token or verdict.reference:
        return EventKeys(_with_token(webhook, webhook.token or ""), None)
    return EventKeys(secrets.token_hex(16), None)


def once_key(reference: str, outcome: Outcome, type_: str = events.UNKNOWN) -> str:
    """Return what is the same for all events of one reference and outcome: in whichever spelling of
    a UUID, since Prembly confirms each.

    Events that are about no verification have no outcome. What happened to their subject is in
    their type, so that counts for them: a transaction is processed, and later escalated.
    """
    if events.is_about_verification(type_):
        return _digest(_framed(same_id(reference)) + _framed(str(outcome)))
    return _digest(_framed(same_id(reference)) + _framed(str(outcome)) + _framed(type_))


def order_key(reference: str) -> str:
    """Return what is the same for all events of one reference, in whichever spelling of a UUID."""
    return _digest(_framed(same_id(reference)))


def _with_token(webhook: Webhook, token: str) -> str:
    return _digest(_framed(webhook.endpoint) + _framed(token) + webhook.body_sha256)


def _framed(text: str) -> bytes:
    """Return a text after its length, so that what follows can't be read as a part of it."""
    encoded = text.encode("utf-8", "replace")
    return len(encoded).to_bytes(4, "big") + encoded


def _digest(parts: bytes) -> str:
    """Return 32 hex digits of `parts`, in which each text is framed."""
    return hashlib.sha256(parts).hexdigest()[:32]
