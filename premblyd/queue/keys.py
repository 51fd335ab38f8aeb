"""The key of an event: by which a webhook that comes again is known as a duplicate. And the digest
that all keys are."""

import hashlib
import secrets
from typing import Literal

from premblyd.prembly.payload import Webhook

By = Literal["body", "token"]  # see config.inquiries.Duplicates


def event_key(webhook: Webhook, by: By = "body") -> str:
    """Return the key of `webhook`: two with the same key are duplicates.

    By body: endpoint and body, if the body has an id of its own. Nobody signs the token, so whoever
    saw a webhook can send it again with another. By token, or without such an id: endpoint, token
    and body. The token alone would not tell: PENDING and the later VERIFIED of one verification may
    share it.

    With nothing to go by the key is random, because small bodies of different verifications may
    be the same bytes.
    """
    verdict = webhook.verdict
    if by == "body" and (verdict.reference or verdict.session_id):
        return _event_key(webhook, "")
    if webhook.token or verdict.reference:
        return _event_key(webhook, webhook.token or "")
    return secrets.token_hex(16)


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
