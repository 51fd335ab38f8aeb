"""A webhook: what came, who signed it and what it says, from its receipt to its hooks."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from premblyd.prembly import bodies
from premblyd.prembly.payload import CONTEXT_FIELDS, Verdict


@dataclass(frozen=True, kw_only=True)  # no slots: cached properties need a __dict__
class Webhook:
    """An authentic webhook, exactly as received."""

    endpoint: str
    received_at_ms: int
    remote_ip: str
    token: str | None
    headers: str  # JSON [[name, value], …]; no signature, token, credential
    body: bytes
    verified_by: str  # the scheme and the key's name: hmac-sha256:live
    verdict: Verdict

    @cached_property
    def document(self) -> dict[str, Any] | None:
        """The JSON object in the body; None when the body is anything else. Read once, and kept."""
        return bodies.parse(self.body)

    def keep_document(self, document: dict[str, Any] | None) -> None:
        """Keep `document`, which the caller has read from the body already."""
        self.__dict__["document"] = document

    def drop_document(self) -> None:
        """Let the document go: it takes many times the memory of its body."""
        self.__dict__.pop("document", None)

    @cached_property
    def body_sha256(self) -> bytes:
        """The body's SHA-256. Made once: of 16 MiB it takes 12 ms."""
        return hashlib.sha256(self.body).digest()

    def context(self) -> dict[str, Any]:
        """Return what `when` and `select` see: the endpoint and the key's scheme and name, the
        verdict fields and the body.

        The session id is left out: it is a secret that opens a session at Prembly.
        """
        return {
            "endpoint": self.endpoint,
            "verified_by": self.verified_by,
            **{name: getattr(self.verdict, name) for name in CONTEXT_FIELDS},
            "body": self.document,
        }


@dataclass(frozen=True, kw_only=True)
class StoredEvent(Webhook):
    """An event: a webhook that is in the database, with its number and its key there."""

    id: int
    key: str
