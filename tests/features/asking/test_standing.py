"""What an event says of how its verification ended."""

from typing import Any

from premblyd.features.asking.standing import Standing, is_final, standing_of
from premblyd.prembly import events
from premblyd.prembly.payload import Outcome, Verdict
from tests.support.rows import for_each

VERIFIED = {"outcome": Outcome.VERIFIED, "verification_status": "VERIFIED"}
STANDINGS: list[tuple[Standing, dict[str, Any]]] = [
    (Standing.RESULT, VERIFIED | {"response_code": "00"}),
    (Standing.RESULT, {"outcome": Outcome.NOT_VERIFIED, "response_code": "00"}),
    (Standing.RESULT, {"outcome": Outcome.NOT_VERIFIED, "response_code": "07"}),
    (Standing.CODE, {"response_code": "01"}),
    (Standing.CODE, {"response_code": "07"}),
    (Standing.DOUBTED, {"response_code": "07", "doubt": "code"}),
    (Standing.LATER, {"outcome": Outcome.PENDING, "response_code": "02"}),
    (Standing.LATER, {"outcome": Outcome.PENDING, "response_code": "01"}),
    (Standing.LATER, {"response_code": "02"}),
    (Standing.LATER, {"response_code": "02", "verification_status": "false"}),
    (Standing.WALLET, {"response_code": "03"}),
    (Standing.OPEN, {"response_code": None}),
    (Standing.OPEN, {"response_code": "00"}),  # as in Prembly's own samples
    (Standing.OPEN, {"response_code": "00", "verification_status": "true"}),  # an acknowledgement
    (Standing.OPEN, {"response_code": "00", "verification_status": "IN-PROGRESS"}),
    (Standing.OPEN, {"response_code": "01", "verification_status": "FAILED"}),
    (Standing.OPEN, {"response_code": "99"}),
]


@for_each(("standing", "fields"), STANDINGS)
def test_what_settles_is_listed_all_else_open(standing: Standing, fields: dict[str, Any]) -> None:
    verdict = Verdict(reference="r-1", **fields)
    assert standing_of(verdict) is standing
    assert is_final(verdict) == (standing in (Standing.RESULT, Standing.CODE))
    assert standing_of(Verdict(**fields)) is standing


@for_each("type_", events.MEANINGS)
def test_only_what_is_about_a_verification_says_what_became_of_one(type_: str) -> None:
    is_about = events.is_about_verification(type_)
    for standing, fields in STANDINGS:
        expected = standing if is_about else Standing.ELSEWHERE
        assert standing_of(Verdict(reference="r-1", type=type_, **fields)) is expected
