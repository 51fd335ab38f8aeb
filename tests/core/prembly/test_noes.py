"""A no counts under each name under which it may stand, in any spelling, beside a VERIFIED."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from premblyd.prembly import payload
from tests.support.rows import for_each

# Of what speaks of the verification: the root, what it is wrapped in, and `verification`.
WRAPPINGS = (
    "data", "response", "result", "results", "payload", "session", "verification response",
    "verification result", "verification data", "verification response data", "verification",
)  # fmt: skip
STATES = ("status", "success", "state", "final status", "kyc status")
RESULTS = (
    "verified", "is verified", "match", "matched", "is match", "is matched", "is success",
    "is successful", "outcome", "verdict", "decision", "verification outcome", "passed",
    "is passed", "approved", "is approved",
)  # fmt: skip
LIVENESS, REJECTED = ("is live", "liveness"), ("rejected", "is rejected")
FACES = (
    "face data", "face match", "face matched", "face status", "face result", "face match status",
    "face match result", "face verification", "face comparison", "is face match",
    "is face matched", "biometric result", "biometric results", "face verified", "selfie match",
)  # fmt: skip
OF_FACE = (
    "status", "success", "match", "matched", "is match", "is matched", "verified", "is verified",
    "outcome", "verdict", "decision", "verification status", "passed", "is passed", "approved",
    "is approved", "data", "response", "result", *LIVENESS,
)  # fmt: skip
# What says no, what does not, in which doubt, and under which names.
SAYINGS: dict[str, tuple[Any, Any, str, tuple[str, ...]]] = {
    "states": (" Failed ", "completed", "status", STATES),
    "results": ("negative", "x", "status", RESULTS),
    "wrappings": (False, "x", "status", WRAPPINGS),
    "rejections": (True, False, "status", REJECTED),
    "codes": ("01", "00", "code", ("response code",)),
    "words": ("PENDING", "VERIFIED", "status", ("verification status",)),
    "liveness": (0, 1, "face", LIVENESS),
    "faces": (-0.5, 1, "face", FACES),
}
OF_FACES: dict[str, tuple[Any, Any, str, tuple[str, ...]]] = {
    "results": ("no", "yes", "face", OF_FACE),
    "rejections": ("yes", "no", "face", REJECTED),
    "codes": (1, 0, "face", ("response code",)),
}


def spellings(name: str) -> set[str]:
    camel = name.title().replace(" ", "")
    return {name, name.replace(" ", "_"), name.upper().replace(" ", "-"), camel}


def doubt(beside: dict[str, Any], status: str = "VERIFIED") -> payload.Verdict:
    said = {"verificationStatus": status, **beside}
    return payload.read(json.dumps(said).encode())


def wrapped(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield bodies that have it: by itself, and within whatever wraps it."""
    yield value
    yield from ({each.replace(" ", "_"): value} for each in WRAPPINGS)
    yield {"data": {"results": [{"x": 1}, value]}}


@for_each("row", SAYINGS)
def test_a_no_is_a_doubt_under_each_name(row: str) -> None:
    no, other, word, names = SAYINGS[row]
    for name in {spelt for each in names for spelt in spellings(each)}:
        for body in wrapped({name: no}):
            assert doubt(body).doubt == word, body
        assert not doubt({name: other}).doubt, name


@for_each("row", OF_FACES)
def test_a_no_about_a_face_is_one_under_each_name_wherever_it_stands(row: str) -> None:
    no, other, word, names = OF_FACES[row]
    faces = itertools.cycle(spelt for each in FACES for spelt in spellings(each))
    for name in (spelt for each in names for spelt in spellings(each)):
        face = next(faces)
        for body in ({face: {name: no}}, {"person": {face: [{name: no}]}}):
            found = doubt(body)
            assert (found.doubt, found.face_match) == (word, False), body
        assert not doubt({face: {name: other}}).doubt, (face, name)


def test_one_no_about_a_face_makes_it_none_though_nobody_is_verified() -> None:
    body = {"face_data": {"status": True}, "data": {"selfie_match": "no"}}
    assert doubt(body, "PENDING").face_match is False
    assert doubt({"face_data": {"status": True}}, "PENDING").face_match is True
