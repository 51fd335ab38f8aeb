"""Mutations of Prembly's samples, read by premblyd and by a plain reading of the same rules.

    python -m tests.faults.doubt [--mutations 10000] [--seed 1]

Places of the facts get other values, lose them, or give a key twice. Both must say the same of
each body: its outcome, its doubt and its face.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from premblyd.prembly import payload
from tests.faults import campaigns
from tests.faults.daemon import table

SAMPLES = sorted((Path(__file__).parents[1] / "payloads").glob("[0-9]*.json"))


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written: its keys and values, in which a key may stand twice."""


class Reading(NamedTuple):
    """What a body says of a person."""

    outcome: str
    doubt: str
    face_match: bool | None


# --- The rules, plainly ---------------------------------------------------------------------

STATUS_PLACES = (
    "verification.status",
    "data.verification.status",
    "verification_status",
    "verificationStatus",
    "data.verification_status",
    "data.data.verification.status",
)
CODE_PLACES = (
    "response_code",
    "responseCode",
    "data.response_code",
    "data.responseCode",
    "verification.response_code",
)
SUCCESS_NAMES = ("status", "success", "state", "final status", "kyc status")
SUCCESS_PLACES = ("status", "data.status", "success", "data.success")
# A no counts wherever it may stand. In which objects, and under which names, in any spelling:
ENVELOPES = ("data", "response", "result", "results", "payload", "session", "verification response",
             "verification result", "verification data", "verification response data")  # fmt: skip
FACE_NAMES = ("face data", "face match", "face matched", "face status", "face result",
              "face match status", "face match result", "face verification", "face comparison",
              "is face match", "is face matched", "biometric result", "biometric results",
              "face verified", "selfie match",
              )  # fmt: skip
RESULT_NAMES = ("verified", "is verified", "match", "matched", "is match", "is matched",
                "is success", "is successful", "outcome", "verdict", "decision",
                "verification outcome", "passed", "is passed", "approved",
                "is approved")  # fmt: skip
LIVENESS_NAMES = ("is live", "liveness")
REJECTED_NAMES = ("rejected", "is rejected")
FACE_RESULT_NAMES = ("success", "match", "matched", "is match", "is matched", "verified",
                     "is verified", "outcome", "verdict", "decision",
                     "verification status", "passed", "is passed", "approved", "is approved",
                     *LIVENESS_NAMES)  # fmt: skip
FACE_OBJECTS = ("face_data", "data.face_data", "data.data.face_data")
FACE_YES = (1, "1", "00", "true", "yes", "match", "matched", "success", "successful", "verified")
FAMILIES = ("workflow", "transaction", "watchlist", "credit", "statement")
ABSENT = object()


def plain_reading(body: bytes) -> Reading:
    """Read `body` as the rules are written, without any thought of speed."""
    document = json.loads(body, object_pairs_hook=Pairs)
    words = [word for word in at(document, STATUS_PLACES) if not is_one_of(word, (None, "", True))]
    is_verified = any(normal(word) == "verified" for word in words)
    faces = list(faces_of(document))
    face_match = None if not faces else all(faces)
    names = event_names(document)
    screening = [*at(document, ("screening_result", "data.screening_result"))]
    if "other event" in names or any(not is_one_of(value, EMPTY) for value in screening):
        is_about = False
    else:
        is_about = "undocumented" not in names
    objections = set(noes(document, "envelope"))
    if "face" in objections and (is_verified or face_match):
        face_match = False
    doubts = []
    if (
        "status" in objections
        or any(normal(word) != "verified" for word in words)
        or any(says_no(value) for value in at(document, SUCCESS_PLACES))
    ):
        doubts.append("status")
    if "code" in objections or any(not is_code_00(code) for code in at(document, CODE_PLACES)):
        doubts.append("code")
    if face_match is False:
        doubts.append("face")
    if "undocumented" in names or "failed" in names:
        doubts.append("type")
    if "key" in objections or any(is_told_twice(document, path) for path in ALL_PATHS):
        doubts.append("key")
    is_doubtful = is_about or "undocumented" in names or "failed" in names
    doubt = ",".join(doubts) if is_verified and is_doubtful else ""
    if not is_about or doubt:
        return Reading("unknown", doubt, face_match)
    return Reading(first_outcome(document, words), "", face_match)


def noes(value: Any, speaks_of: str) -> Iterator[str]:
    """Yield what says no in an object or a list, in words of `doubt`. It `speaks_of` the face, of
    the verification as the root does (envelope) or as `verification` does, or of something else."""
    if isinstance(value, list) and not isinstance(value, Pairs):
        for item in value:
            yield from noes(item, speaks_of)
    if not isinstance(value, Pairs):
        return
    for key, inner in dict(value).items():
        name = spelt(key)
        is_known = True
        within = "other"
        is_face = is_among(name, FACE_NAMES)
        if is_face:
            within = "face"
            if is_clear_no(inner):
                yield "face"
        elif speaks_of == "face" and name == "status":
            if not is_one_of(inner, (None, "", Pairs())) and not is_face_yes(inner):
                yield "face"
        elif speaks_of == "face" and name == "responsecode":
            if not is_code_00(inner):
                yield "face"
        elif speaks_of == "face" and name in ("data", "response", "result"):
            within = "face"
            if is_clear_no(inner):
                yield "face"
        elif speaks_of == "face" and is_among(name, FACE_RESULT_NAMES):
            if is_clear_no(inner):
                yield "face"
        elif speaks_of == "face" and is_among(name, REJECTED_NAMES):
            if is_face_yes(inner):
                yield "face"
        elif speaks_of in ("face", "other"):
            is_known = False
        elif name == "responsecode":
            if not is_code_00(inner):
                yield "code"
        elif name == "verificationstatus" or (name == "status" and speaks_of == "verification"):
            if not is_one_of(inner, (None, "", True)) and normal(inner) != "verified":
                yield "status"
        elif is_among(name, SUCCESS_NAMES):
            if says_no(inner):
                yield "status"
        elif is_among(name, REJECTED_NAMES):
            if is_face_yes(inner):
                yield "status"
        elif is_among(name, LIVENESS_NAMES):
            if is_clear_no(inner):
                yield "face"
        elif is_among(name, RESULT_NAMES):
            if is_clear_no(inner):
                yield "status"
        elif name == "verification" or is_among(name, ENVELOPES):
            within = "verification" if name == "verification" else "envelope"
            if says_no(inner):
                yield "status"
        else:
            is_known = name == "event"
        if is_known and [other for other, _ in value].count(key) > 1:
            yield "key"
        yield from noes(inner, within)


def spelt(key: str) -> str:
    return "".join(letter for letter in key.lower() if letter not in "_- ")


def is_among(name: str, names: tuple[str, ...]) -> bool:
    return name in [spelt(other) for other in names]


def is_clear_no(value: Any) -> bool:
    if isinstance(value, str):
        word = value.strip()
        is_number = re.fullmatch(r"[-.0-9]+", word) and word != "00" and re.search(r"\d", word)
        return (
            says_no(value)
            or normal(word) in ("n", "none", "negative")
            or (bool(is_number) and float(word) <= 0)
        )
    return isinstance(value, int | float) and value <= 0


EMPTY: tuple[Any, ...] = (None, "", False, 0, [], Pairs())


def first_outcome(document: Any, words: list[Any]) -> str:
    said = [word for word in at(document, STATUS_PLACES) if not is_one_of(word, (True, *EMPTY[:3]))]
    said = [word for word in said if not (isinstance(word, list) and not word)]
    outcomes = {"verified": "verified", "not-verified": "not_verified", "pending": "pending"}
    return outcomes.get(normal(said[0]), "unknown") if said else "unknown"


def normal(word: Any) -> str:
    return word.lower().replace("_", "-").replace(" ", "-") if isinstance(word, str) else ""


def says_no(value: Any) -> bool:
    return value is False or (isinstance(value, str) and normal(value.strip()) in NO_WORDS)


NO_WORDS = (
    *("false", "failed", "fail", "error", "no", "unsuccessful", "rejected", "declined", "denied"),
    *("not-verified", "notverified", "unverified", "pending", "mismatch", "mismatched"),
    *("unmatched", "no-match", "not-match", "not-matched"),
    *("closed", "expired", "suspended", "cancelled", "abandoned", "invalid", "incomplete"),
    *("processing", "manual-review"),
)


def is_code_00(code: Any) -> bool:
    if code is None or (isinstance(code, str) and code.strip() in ("", "00")):
        return True
    return type(code) is int and code == 0


def faces_of(document: Any) -> Iterator[bool]:
    """Yield, for each place that speaks of the face, whether it is a clear yes."""
    for path in FACE_OBJECTS:
        (about,) = at(document, (path,)) or (None,)
        if not isinstance(about, Pairs):
            if not is_one_of(about, (None, "")):
                yield is_face_yes(about)
            continue
        for name in ("Status", "status"):
            value = dict(about).get(name)
            if not is_one_of(value, (None, "", Pairs())):
                yield is_face_yes(value)
        code = dict(about).get("response_code")
        if code is not None and not (isinstance(code, str) and code.strip() == ""):
            yield is_code_00(code)


def is_face_yes(value: Any) -> bool:
    if isinstance(value, str):
        value = value.strip().lower()
    return not isinstance(value, list) and value in FACE_YES


def event_names(document: Any) -> set[str]:
    """Return what kinds of names the event has."""
    kinds = set()
    for path in ("event", "data.event"):
        for value in at(document, (path,)):
            if value is None or is_one_of(value, ("",)):
                continue
            name = value.strip().lower() if isinstance(value, str) else ""
            first = name.replace("_", ".").split(".")[0]
            if first in FAMILIES and " " not in name:
                kinds.add("other event")
            elif first == "verification" and " " not in name:
                is_failed = name.endswith((".failed", "_failed", ".error", "_error"))
                kinds.add("failed" if is_failed else "verification")
            elif path == "data.event" and name in ("processed", "escalated", "unnamed"):
                kinds.add("other event")
            elif name == "sdk.session":
                kinds.add("verification")
            else:
                kinds.add("undocumented")
    return kinds


def is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    """Return whether `value` is one of these as JSON knows them: 1 is not true, [] is not {}."""
    return any(type(value) is type(other) and value == other for other in values)


def at(document: Any, paths: tuple[str, ...]) -> list[Any]:
    """Return what stands in these places; of a key that is given twice, the last."""
    found = []
    for path in paths:
        value = document
        for key in path.split("."):
            value = dict(value).get(key, ABSENT) if isinstance(value, Pairs) else ABSENT
        if value is not ABSENT:
            found.append(value)
    return found


def is_told_twice(document: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(document, Pairs):
            return False
        if [name for name, _ in document].count(key) > 1:
            return True
        document = dict(document).get(key)
    return False


ALL_PATHS = (
    *STATUS_PLACES,
    *CODE_PLACES,
    *SUCCESS_PLACES,
    *(
        f"{place}.{name}"
        for place in FACE_OBJECTS
        for name in ("Status", "status", "response_code")
    ),
    "event",
    "data.event",
)

# Where only a no counts, or nothing at all.
ASIDE_PATHS = (
    *("data.verification.face_data", "face_data.match", "faceData", "FACE_DATA.STATUS"),
    *("biometric_results", "data.biometric_results.match", "data.outcome", "is_verified"),
    *("data.verification.response_code", "verification.face_data.status", "data.Response_Code"),
    *("data.verification_response.verification.status", "data.data.status", "Data.IsVerified"),
    *("data.data.response-code", "Verification.Status", "data.person.face_data.status"),
    *("data.response.verification_status", "data.phone.verification_status", "data.phone.status"),
    *("data.directors", "result", "data.face_data.result.status", "company_status"),
    *("state", "data.final_status", "kyc_status", "passed", "data.approved", "is_live"),
    *("data.liveness", "face_verified", "data.selfie_match", "rejected", "match", "face_match"),
)

# --- The mutations --------------------------------------------------------------------------

VALUES: list[Any] = [
    *(None, "", " ", True, False, 0, 1, -1, 0.0, 1.0, 97.5, [], Pairs(), ["00"], [True]),
    *("00", " 00 ", "01", "0", "1", "02", "07", 7, "000", Pairs([("status", "VERIFIED")])),
    *("VERIFIED", "verified", "NOT-VERIFIED", "not verified", "PENDING", "VERIFIED ", "CANCELLED"),
    *("true", "false", "FALSE", "failed", "Failed", "error", "success", "completed", "x"),
    *("Rejected", "unsuccessful", "not_verified", " no ", "Not Verified"),
    *("declined", [Pairs([("status", False)]), Pairs([("response_code", "01")])], "mismatch"),
    *("yes", "no", "match", "Matched", "Successful", "not match", "mismatch"),
    *(" 0 ", "0.0", "-1", "n", "none", "negative", "expired", "manual_review", "processing"),
]
EVENTS: list[Any] = [
    *("verification.completed", "verification.failed", "verification_completed", "sdk.session"),
    *("fraud.identity_flagged", "case.opened", "Verification completed", "prembly.status"),
    *("workflow.process.completed", "transaction.processed", "processed", "credit", "unknown"),
    *("", None, True, 0, [], Pairs(), "verification", "statement.analysis", "person.verified"),
]


def mutated(sample: Any, rng: random.Random) -> bytes:
    """Return `sample` with up to three changes at places of the facts."""
    document = copied(sample)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        path = rng.choice(rng.choice((ALL_PATHS, ASIDE_PATHS))).split(".")
        if rng.random() < 0.2:
            path = path[: rng.randint(1, len(path))]
        change(document, path, rng.choice(EVENTS if path[-1] == "event" else VALUES), rng)
    return written(document).encode()


def change(document: Pairs, path: list[str], value: Any, rng: random.Random) -> None:
    """Set, add once more or take away what `path` leads to."""
    place = document
    for key in path[:-1]:
        inner = dict(place).get(key)
        if not isinstance(inner, Pairs):
            inner = Pairs()
            keep(place, key, inner)
        place = inner
    kind = rng.random()
    if kind < 0.12:
        place[:] = [pair for pair in place if pair[0] != path[-1]]
    elif kind < 0.24:
        place.insert(rng.randint(0, len(place)), (path[-1], copied(value)))
    else:
        keep(place, path[-1], copied(value))


def keep(place: Pairs, key: str, value: Any) -> None:
    place[:] = [pair for pair in place if pair[0] != key] + [(key, value)]


def copied(value: Any) -> Any:
    if isinstance(value, Pairs):
        return Pairs((key, copied(inner)) for key, inner in value)
    return [copied(inner) for inner in value] if isinstance(value, list) else value


def written(value: Any) -> str:
    if isinstance(value, Pairs):
        members = ",".join(f"{json.dumps(key)}:{written(inner)}" for key, inner in value)
        return "{" + members + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def differences(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Read `count` mutations in both ways. Return how many had which doubt or outcome, and the
    bodies that were read differently."""
    rng = random.Random(seed)
    samples = [json.loads(path.read_bytes(), object_pairs_hook=Pairs) for path in SAMPLES]
    found: Counter[str] = Counter()
    problems = []
    for number in range(count):
        body = mutated(samples[number % len(samples)], rng)
        verdict = payload.read(body)
        read = Reading(verdict.outcome.value, verdict.doubt or "", verdict.face_match)
        plain = plain_reading(body)
        found[f"outcome {read.outcome}"] += 1
        found["doubted"] += bool(read.doubt)
        found.update(f"doubt {word}" for word in read.doubt.split(",") if word)
        if read != plain:
            problems.append(f"{read} by premblyd, {plain} plainly: {body.decode()}")
    return found, problems


def main() -> None:
    arguments = campaigns.arguments(__doc__, mutations=10_000, seed=1)
    found, problems = differences(arguments.mutations, arguments.seed)
    table({"mutations": arguments.mutations, **dict(sorted(found.items()))})
    table({"read differently": len(problems)})
    campaigns.end(problems[:20])


if __name__ == "__main__":
    main()
