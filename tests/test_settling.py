"""Which events leave open what became of a verification, and which say it."""

import json
from pathlib import Path

from premblyd.prembly import events, payload, samples
from premblyd.prembly.payload import Outcome, Verdict
from tests.support.rows import for_each

PAYLOADS = Path(__file__).parent / "payloads"
VERIFIED = {"outcome": Outcome.VERIFIED, "verification_status": "VERIFIED"}
SETTLED = [
    VERIFIED | {"response_code": "00"},
    VERIFIED | {"response_code": None},
    {"outcome": Outcome.NOT_VERIFIED, "response_code": "00"},
    {"response_code": "00"},
    {"response_code": "01", "verification_status": "FAILED"},
    {"response_code": "07"},
    {"response_code": "99"},
]
OPEN = [
    {"response_code": "03"},  # the account's money says nothing of the person
    {"response_code": None},
    {"response_code": "00", "verification_status": "true"},  # an acknowledgement
    {"response_code": "00", "verification_status": "IN-PROGRESS"},
]
UNSETTLED = [
    {"outcome": Outcome.PENDING, "response_code": "02"},
    {"outcome": Outcome.PENDING, "response_code": "00"},
    {"response_code": "02"},
    {"response_code": "02", "verification_status": "false"},
]


@for_each("fields", [*SETTLED, *OPEN, *UNSETTLED])
def test_the_last_word_settles_and_pending_and_02_are_asked_about_by_their_reference(
    fields: dict[str, object],
) -> None:
    verdict = Verdict(reference="r-1", **fields)  # type: ignore[arg-type]
    assert verdict.is_settled == (fields in SETTLED)
    assert verdict.is_unsettled == (fields in UNSETTLED)
    assert not Verdict(**fields).is_unsettled  # type: ignore[arg-type]


@for_each("type_", events.MEANINGS)
def test_only_what_is_about_a_verification_says_what_became_of_one(type_: str) -> None:
    is_about = events.is_about_verification(type_)
    for fields in (*SETTLED, *UNSETTLED):
        verdict = Verdict(reference="r-1", type=type_, **fields)  # type: ignore[arg-type]
        assert (verdict.is_settled or verdict.is_unsettled) == is_about


@for_each(
    ("name", "settled", "unsettled"),
    [
        ("01_api_nin_00", True, False),
        ("05_api_01_status_true", True, False),
        ("07_api_03_wallet", False, False),
        ("13_pending_02", False, True),
        ("14_pending_then_verified_same_ref", True, False),
        ("17_passport_async_boolean_status", False, False),
        ("20_session_id_only", False, False),
    ],
)
def test_of_known_bodies(name: str, *, settled: bool, unsettled: bool) -> None:
    [path] = PAYLOADS.glob(f"{name}*.json")
    verdict = payload.read(path.read_bytes())
    assert verdict.is_settled == settled
    assert verdict.is_unsettled == unsettled


def test_of_samples_only_pending_ones_are_unsettled() -> None:
    for name in samples.NAMES:
        body = samples.sample(name)
        verdict = payload.read(body)
        is_pending = b'"PENDING"' in body or json.loads(body).get("response_code") == "02"
        assert verdict.is_unsettled == (
            is_pending and events.is_about_verification(verdict.type)
        ), name
