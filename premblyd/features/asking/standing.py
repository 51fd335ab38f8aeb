"""Whether what Prembly says of a verification is its last word; and what an answer can state."""

from enum import IntEnum, StrEnum

from premblyd.prembly import events
from premblyd.prembly.payload import WALLET_CODE, Outcome, Verdict, session_reference

DATA_CODE = "00"  # data is returned, which is not yet a yes
LATER_CODE = "02"  # Prembly can't complete it at this time
OPEN_CODES = (LATER_CODE, WALLET_CODE)  # Prembly tries again when it can; all others are final
FINAL_OUTCOMES = (Outcome.VERIFIED, Outcome.NOT_VERIFIED)
FINAL_CODES = ("01", "07")  # of these Prembly sends no status word
# What an answer of Prembly can state of a verification. All else is as the event has it.
FACTS = tuple(
    "response_code status detail verification_status outcome user_ref face_match face_confidence"
    " risk_level risk_score".split()
)


class Standing(StrEnum):
    """What an event says about the end of its verification. RESULT settles it, and CODE does when
    Prembly says no more.

    What settles a verification is listed. All else is open, whatever it says: else anybody who
    knows the public key could hide a lost event by sending one that says nothing.
    """

    RESULT = "result"  # VERIFIED or NOT-VERIFIED
    CODE = "code"  # 01 or 07, and no word
    DOUBTED = "doubted"  # a VERIFIED that does not fit the rest
    LATER = "later"  # PENDING or 02: Prembly tries again
    WALLET = "wallet"  # 03: the account lacks money, and who knows until when
    OPEN = "open"  # nothing, an acknowledgement, 00 alone, a word or a code that nobody knows
    ELSEWHERE = "elsewhere"  # it is about no verification


SETTLING = (Standing.RESULT, Standing.CODE)
# Prembly is asked once for what is known already.
ASKED_ONCE = (Standing.CODE, Standing.DOUBTED)
# What was sent before the result: whatever ran for it, did not run for the result.
BEFORE_RESULT = (Standing.LATER, Standing.WALLET)


class Rank(IntEnum):
    """How much Prembly is asked about an event. What is asked about less keeps no true event that
    comes meanwhile from being awaited beside it."""

    LATE = 0
    ONCE = 1
    OPEN = 2

    @classmethod
    def of(cls, standing: str) -> "Rank":
        if standing == Standing.WALLET:
            return cls.LATE
        return cls.ONCE if standing in ASKED_ONCE else cls.OPEN


def own_reference(verdict: Verdict) -> str | None:
    """Return the reference; None if it is none of its own, but is made of the session's id."""
    if verdict.session_id and verdict.reference == session_reference(verdict.session_id):
        return None
    return verdict.reference


def is_left_open(verdict: Verdict) -> bool:
    """Return whether this says that Prembly will know later: PENDING, which Prembly tries again, or
    without a result 02 or 03. (What is doubted counts as settled.)"""
    if verdict.doubt:
        return False
    if verdict.outcome is Outcome.UNKNOWN:
        return verdict.response_code in OPEN_CODES
    return verdict.outcome is Outcome.PENDING


def standing_of(verdict: Verdict) -> Standing:
    """Return what this says of how the verification ended. stored.py asks the same of stored
    events, and a test holds that they agree."""
    if not events.is_about_verification(verdict.type):
        return Standing.ELSEWHERE
    if verdict.doubt:
        return Standing.DOUBTED
    if verdict.outcome in FINAL_OUTCOMES:
        return Standing.RESULT
    if verdict.outcome is Outcome.PENDING or verdict.response_code == LATER_CODE:
        return Standing.LATER
    if verdict.response_code == WALLET_CODE:
        return Standing.WALLET
    if verdict.response_code in FINAL_CODES and verdict.verification_status is None:
        return Standing.CODE
    return Standing.OPEN


def is_final(verdict: Verdict) -> bool:
    """Return whether an answer that says this is Prembly's last word on the verification."""
    return standing_of(verdict) in SETTLING
