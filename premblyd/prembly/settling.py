"""Which events leave open what became of a verification, and which say it. An event that is not
about a verification (events.ABOUT_VERIFICATION) does neither.

Source: docs.prembly.com, "response codes and verification status": PENDING is tried again by
Prembly, 02 means that it can't be completed at this time, 03 that the account lacks money. All
others are final.
"""

from premblyd.prembly import events
from premblyd.prembly.payload import Outcome, Verdict

FINAL_OUTCOMES = (Outcome.VERIFIED, Outcome.NOT_VERIFIED)
LATER_CODE = "02"  # service unavailable, retry later
OPEN_CODES = (LATER_CODE, "03")  # and insufficient wallet balance
DATA_CODE = "00"  # processed, data returned


def is_unsettled(verdict: Verdict) -> bool:
    """Return whether Prembly can be asked later what became of the verification: its outcome is
    pending, or it has none and code 02; and there is a reference to ask by."""
    if verdict.doubt or not verdict.reference or not events.is_about_verification(verdict.type):
        return False
    if verdict.outcome is Outcome.UNKNOWN:
        return verdict.response_code == LATER_CODE
    return verdict.outcome is Outcome.PENDING


def is_settled(verdict: Verdict) -> bool:
    """Return whether this is Prembly's last word on the verification.

    What is doubted counts as such, if it is about a verification at all: an answer that is silent
    on what does not fit would be stored as a second event, without the doubt.

    Without an outcome the code decides. 00 with a status that is none of the three documented words
    acknowledges the request, and nothing more.
    """
    if not events.is_about_verification(verdict.type):
        return False
    if verdict.doubt:
        return True
    if verdict.outcome is not Outcome.UNKNOWN:
        return verdict.outcome in FINAL_OUTCOMES
    code = verdict.response_code
    if code is None or code in OPEN_CODES:
        return False
    return code != DATA_CODE or verdict.verification_status is None
