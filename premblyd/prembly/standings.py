"""What an event says of how its verification ended, and what follows for asking Prembly.

What settles a verification is listed. All else is open, whatever it says: else anybody who knows
the public key could hide a lost event by sending one that says nothing.
"""

from enum import IntEnum, StrEnum


class Standing(StrEnum):
    """What an event says about the end of its verification. RESULT settles it, and CODE does when
    Prembly says no more."""

    RESULT = "result"  # VERIFIED or NOT-VERIFIED
    CODE = "code"  # 01 or 07, and no word
    DOUBTED = "doubted"  # a VERIFIED that does not fit the rest
    LATER = "later"  # PENDING or 02: Prembly tries again
    WALLET = "wallet"  # 03: the account lacks money, and who knows until when
    OPEN = "open"  # nothing, an acknowledgement, 00 alone, a word or a code that nobody knows
    ELSEWHERE = "elsewhere"  # it is about no verification


SETTLING = (Standing.RESULT, Standing.CODE)
# Prembly is asked once of what is told already.
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
