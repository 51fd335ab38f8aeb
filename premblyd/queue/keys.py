"""The key of an event, which identifies duplicates."""

import secrets
from typing import Literal

from premblyd.prembly.payload import Webhook
from premblyd.verifications.digests import KEY_DIGITS, Digests

By = Literal["body", "token"]  # see config.inquiries.Duplicates


def event_key(digests: Digests, webhook: Webhook, by: By = "body") -> str:
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
        return digests.key(b"event key", webhook.endpoint, "", end=webhook.body_sha256)
    if webhook.token or verdict.reference:
        token = webhook.token or ""
        return digests.key(b"event key", webhook.endpoint, token, end=webhook.body_sha256)
    return secrets.token_hex(KEY_DIGITS // 2)
