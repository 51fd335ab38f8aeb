"""A certificate as it is handed out: its summary, and a digest of each verification."""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from premblyd import jsontext
from premblyd.engines.engine import Database
from premblyd.errors import PremblydError
from premblyd.prembly.payload import plain_id
from premblyd.record.certificates.stored import StoredCertificate
from premblyd.record.certificates.summary import Summary
from premblyd.verifications.digests import Digests


class Verification(NamedTuple):
    """A verification in Prembly's log, and what is true of it, by the names of `Counts`."""

    digest: str
    type: str
    states: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate, with the digests. `nonce`: without it nobody can tell by the fingerprint, of
    a day with few verifications, whose these were. `stopped_by`: why the log was not read to its
    end."""

    summary: Summary
    verifications: Callable[[], Iterator[Verification]] = field(repr=False)  # by their digests
    nonce: str = field(repr=False)
    stopped_by: PremblydError | None

    def as_json(self, stored: StoredCertificate) -> Iterator[bytes]:
        """Yield it as JSON, a line for each verification. `stored`: as which the record has it."""
        own = {"number": stored.number, "made_before": stored.made_before, "nonce": self.nonce}
        about = self.summary.as_json() | own
        yield jsontext.dumps(about)[:-1] + b',\n"verifications":['
        comma = b"\n"
        for each in self.verifications():
            yield comma + jsontext.dumps(each._asdict())
            comma = b",\n"
        yield b"]}\n"


class CertificateDigests:
    """Makes the digests of a record's certificates: the same in all of them."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.id = hashlib.sha256(b"premblyd certificates' key 1 " + key).hexdigest()[:16]

    @classmethod
    def of(cls, database: Database) -> "CertificateDigests":
        """Raise as Digests.of."""
        return cls(database.look(Digests.of).key_for_certificates())

    def of_reference(self, reference: str) -> bytes:
        """Return what stands for a reference, in all of its spellings."""
        data = plain_id(reference).encode("utf-8", "replace")
        return hmac.digest(self.key, data, "sha256")
