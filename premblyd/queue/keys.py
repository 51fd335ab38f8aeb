"""The key of an event: by which a webhook that comes again is known as a duplicate. And the digest
that all keys are."""

import hashlib
import secrets
from typing import Literal, NamedTuple

from premblyd.prembly.payload import Webhook

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
        earlier = _event_key(webhook, webhook.token) if webhook.token else None
        return EventKeys(_event_key(webhook, ""), earlier)
    if webhook.token or verdict.reference:
        return EventKeys(_event_key(webhook, webhook.token or ""), None)
    return EventKeys(secrets.token_hex(16), None)


def _event_key(webhook: Webhook, token: str) -> str:
    return digest(webhook.endpoint, token, end=webhook.body_sha256)


def digest(*texts: str, end: bytes = b"") -> str:
    """Return 32 hex digits of texts: they have a fixed length, and show nothing of what they were
    made from. Each text stands after its own length, so that no other one can be read from it."""
    made_from = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "replace")
        made_from.update(len(encoded).to_bytes(4, "big") + encoded)
    made_from.update(end)
    return made_from.hexdigest()[:32]
