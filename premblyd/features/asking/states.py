"""The states of what is awaited, and other words that asking's tables have."""

from enum import StrEnum


class AwaitedState(StrEnum):
    """Where an awaited verification stands."""

    WAITING = "waiting"  # Prembly is asked at due_at_ms
    SETTLED = "settled"
    GIVEN_UP = "given_up"
    ERASED = "erased"  # its person's data were erased: nothing is asked of it any more


class Purpose(StrEnum):
    """Why Prembly was asked."""

    CONFIRM = "confirm"  # whether an event is true, before a hook runs
    PENDING = "pending"  # what became of a verification
    RECONCILE = "reconcile"  # for an event that never came


class InquiryResult(StrEnum):
    """What came of one question to Prembly."""

    CONFIRMED = "confirmed"  # the answer says the same as the event
    CONTRADICTED = "contradicted"  # it says something else
    SETTLED = "settled"  # it is final, and was stored as an event
    UNSETTLED = "unsettled"  # Prembly does not know yet either
    NOT_FOUND = "not_found"  # Prembly knows no such verification
    REFUSED = "refused"  # the API key is wrong, or may not ask this
    UNAVAILABLE = "unavailable"  # no answer that can be used; ask again later
