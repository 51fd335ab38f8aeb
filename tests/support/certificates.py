"""What a certificate said, made up."""

from premblyd import __version__
from premblyd.record.certificates.summary import (
    FORMAT,
    Counts,
    LogRead,
    Received,
    Summary,
    statement,
    why_not,
)
from premblyd.times import DAY_MS, day


def summary(day_ms: int, *, missing: int = 0) -> Summary:
    """Return what a certificate says of a day with 1,000 verifications."""
    counts = Counts(in_log=1000, in_record=1000 - missing, missing=missing, acted_upon=900)
    log = LogRead(
        asked=True,
        whole=True,
        pages=10,
        total_pages=10,
        without_id=0,
        without_time=0,
        of_another_time=0,
        not_expected=0,
        error=None,
    )
    reasons = tuple(why_not(log=log, total=counts, is_over=True, is_pruned=False))
    return Summary(
        format=FORMAT,
        day=day(day_ms),
        since_ms=day_ms,
        until_ms=day_ms + DAY_MS,
        made_at_ms=day_ms + DAY_MS + 13_200_000,
        version=__version__,
        complete=not reasons,
        statement=statement(day(day_ms), counts, complete=not reasons),
        reasons=reasons,
        pruned=False,
        log=log,
        total=counts,
        by_type={"document_w_face": counts, "bvn": Counts()},
        received={"sdk.session": Received(events=1000 - missing, acted_upon=900, not_in_log=None)},
        key="0123456789abcdef",
        fingerprint="0123456789abcdef" * 4,
    )
