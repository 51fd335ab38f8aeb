"""Standard Webhooks 1.0 (github.com/standard-webhooks): the form of a secret, and a signature.

Not the standardwebhooks package: it signs text only, and a body need not be UTF-8.
"""

import base64
import hmac

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
PREFIX = "whsec_"
MIN_KEY_BYTES = 16


def key_of(secret: str) -> bytes:
    """Return the key within a secret, `whsec_` and base64. Raise ValueError with words for its
    owner when it is none."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        raise ValueError("should be a Standard Webhooks secret, whsec_<base64>") from None
    if len(key) < MIN_KEY_BYTES:
        raise ValueError("the signing secret is too short: at least 16 bytes, better 32")
    return key


def sign(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    """Return the `webhook-signature` of `body`, over its raw bytes."""
    digest = hmac.new(key, f"{webhook_id}.{timestamp}.".encode(), "sha256")
    digest.update(body)  # not joined with the rest, which would copy a body that may be large
    return "v1," + base64.b64encode(digest.digest()).decode("ascii")
