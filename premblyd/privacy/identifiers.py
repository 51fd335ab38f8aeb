"""The shapes of references and codes, which decide where they are seen.

A reference or a code is chosen by its sender, and may be a person's number, a name or a whole
document. A log is kept and passed on, so it has a reference only in the shapes of Prembly's own
ids, and otherwise a digest of it. People who look at a single event also see other shapes that
hold no person's number.
"""

import hashlib
import os
import re
from functools import lru_cache

from premblyd.privacy.fields import TYPE_WORDS

# The ids that Prembly's pages show: a UUID (with hyphens, underscores or neither), and
# ver_document_w_face_… with one, or with a few digits among letters. And our samples' own, and the
# digest that stands for a session.
_UUID = r"(?=[0-9_-]*[a-f])[0-9a-f]{8}([_-]?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}"
_FEW_DIGITS = r"(?!(?:[a-z]*\d){10})(?=(?:[a-z]*\d){3})(?!\w*\d{5})(?=\d*[a-z])[a-z0-9]{8,40}"
_PREMBLY_ID = re.compile(
    rf"(?:ver(?:_[a-z]{{1,20}}){{1,6}}_)?{_UUID}"
    rf"|ver(?:_[a-z]{{1,20}}){{1,6}}_{_FEW_DIGITS}"
    r"|session-(?=[0-9]*[a-f])[0-9a-f]{24}"
    r"|sample-[a-z-]{1,20}-\d{4}(?:-[a-z]{12})?",
    re.IGNORECASE | re.ASCII,
)
_PREMBLY_CODE = re.compile(r"[0-9]{2}")
_UUID_OF_DIGITS = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ID = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9])[A-Za-z0-9][A-Za-z0-9._:-]{3,63}")
_LONG_NUMBER = re.compile(r"\d(?:[._:-]?\d){6,}")
_TYPE = re.compile(r"[a-z]+(?:[._][a-z]+)*")
_CODE = re.compile(r"[0-9]{1,3}|[A-Za-z][0-9]{1,3}")
_DIGEST_KEY = os.urandom(32)


def is_prembly_id(text: str) -> bool:
    """Return whether `text` has the shape of one of Prembly's ids."""
    return _PREMBLY_ID.fullmatch(text) is not None


def is_reference(text: str) -> bool:
    """Return whether people who look at an event may see `text` as its reference: it is an id of
    Prembly's, a UUID, or letters and digits without a long number."""
    if is_prembly_id(text) or _UUID_OF_DIGITS.fullmatch(text):
        return True
    return _ID.fullmatch(text) is not None and not _LONG_NUMBER.search(text)


def is_code(text: str) -> bool:
    """Return whether people who look at an event may see `text` as its code: 00, 200 or E1."""
    return _CODE.fullmatch(text) is not None


def is_type(text: str) -> bool:
    """Return whether `text` is the name of a type of events, such as transaction.processed, made of
    known words alone: a sender may make up others."""
    return _TYPE.fullmatch(text) is not None and TYPE_WORDS.issuperset(re.split("[._]", text))


@lru_cache(maxsize=256)
def safe_type(text: str) -> str:
    """Return the name of a type of events, or a digest of one that has unknown words."""
    return text if is_type(text) else _digest(text)


def safe_id(text: str | None) -> str | None:
    """Return `text` if it has the shape of Prembly's ids, else a digest of it: a sender chose it,
    so it may be a person's number, a name or a whole document.

    Equal texts have equal digests until the process ends. The key is random: nobody can try all
    numbers until the digest fits.
    """
    if not text or is_prembly_id(text):
        return text or None
    return _digest(text)


def safe_code(text: str | None) -> str | None:
    """Return a response code if it is two digits, as Prembly's are, else a digest of it."""
    if not text or _PREMBLY_CODE.fullmatch(text):
        return text or None
    return _digest(text)


def _digest(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return "~" + hashlib.blake2b(data, key=_DIGEST_KEY, digest_size=4).hexdigest()
