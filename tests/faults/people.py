"""Somebody whom the canary campaign makes up, with a mark in everything that is said of her."""

import base64
import hashlib
import json
import random
import uuid
from typing import Any

from tests.support import canaries
from tests.support.canaries import Marks

PHOTO_BYTES = 9000


class Person:
    """Somebody, and what Prembly's webhooks say of her."""

    def __init__(self, rng: random.Random, name: str) -> None:
        def word(kind: str) -> str:
            return f"{kind}-{rng.randbytes(9).hex()}"

        self.bvn = f"222{rng.randrange(10**8):08}"
        self.user_ref = word(name)
        self.reference = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self.pending = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self.confirming = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self.asking = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self.photo = canaries.photo(rng, PHOTO_BYTES)
        self.session = word("session")
        address = ":".join(f"{rng.randrange(0x1000, 0xFFFF):x}" for _ in range(6))
        self.texts = {
            "BVN": self.bvn,
            "name": f"Ọlábísí «{word('name')}»",
            "session": self.session,
            "reference": self.reference,
            "reference in capitals": self.reference.upper(),
            "reference without hyphens": self.reference.replace("-", ""),
            "reference with underscores": self.reference.replace("-", "_"),
            "pending reference": self.pending,
            "reference that is being confirmed": self.confirming,
            "reference that is being asked for": self.asking,
            "user_ref": self.user_ref,
            "token": word("token"),
            "header": word("agent"),
            "request id": word("request"),
            "address": f"2001:db8:{address}",
            "code": word("code"),
            "status": word("status"),
            "risk": word("risk"),
            "reason": word("reason"),
        }
        # Which anybody could make who guesses: those that are kept are keyed.
        self.texts |= {
            f"hash of {kind}": hashlib.sha256(self.texts[kind].encode()).hexdigest()[:24]
            for kind in ("BVN", "session", "reference", "user_ref")
        }

    def body(self, reference: str, *, verified: bool = True, odd: bool = False) -> bytes:
        """Return what Prembly sends of a verification. `odd`: with marks where a code or a state
        is expected."""
        texts = self.texts
        said: dict[str, Any] = {
            "status": texts["status"] if odd else True,
            "detail": f"Verification of {texts['name']} in {self.session}",
            "response_code": texts["code"] if odd else "00" if verified else "02",
            "verification": {
                "status": "VERIFIED" if verified else "PENDING",
                "reference": reference,
            },
            "session_id": self.session,
            "widget_info": {"user_ref": self.user_ref, "first_name": texts["name"]},
            "data": {
                "bvn": self.bvn,
                "base64Image": base64.b64encode(self.photo).decode(),
                **({"risk_level": texts["risk"]} if odd else {}),
            },
        }
        return json.dumps(said, ensure_ascii=False).encode()

    def headers(self) -> dict[str, str]:
        texts = self.texts
        return {
            "token": texts["token"],
            "User_Agent": texts["header"],
            "X_Request_Id": texts["request id"],
            "X_Forwarded_For": texts["address"],
        }

    def marks(self) -> Marks:
        return Marks.of(self.texts, photos=[self.photo])
