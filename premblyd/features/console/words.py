"""What the pages say, and how they write values: the templates' own vocabulary."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tornado.escape import xhtml_escape

from premblyd.feature import added
from premblyd.features.reading.words import duration, percent  # noqa: F401
from premblyd.ground import privacy, times
from premblyd.ground.words import counted, number, size, visible  # noqa: F401
from premblyd.prembly import events, payload
from premblyd.record import filters
from premblyd.record.lists import instead  # noqa: F401
from premblyd.store import states

MASK = privacy.MASK
SIGN_IN = "Sign in first: `premblyd console` prints a link."
OTHER_HOST = (
    "The console does not answer to this name. Use the address it listens on, localhost, or"
    " set `console: {url: …}` to its URL behind the proxy."
)
CROSS_SITE = "Another site sent this. Nothing was done. Open the console and do it there."
NO_ROLE = "The proxy has signed you in, and `console: {proxy: {roles: …}}` has no role for you."
ONLY_LOOKS = (
    "This needs the role `operate`, and you have `look`. Nothing was done. `premblyd console`"
    " prints a link for it."
)
BY_PROXY = "The proxy has signed you in, so sign out there."
FAILED = "Something went wrong here. The log says more: console.failed."
ERRORS = {
    403: "This form was too old, or came from another site. Nothing was done. Reload its page.",
    404: "There is nothing here.",
    405: "That can't be done here.",
    400: "This request can't be understood.",
}
FINISHED, CANCELLABLE = states.FINISHED, states.CANCELLABLE  # which buttons a delivery has
DONE = {
    "replayed": "Queued: its hook runs now, unless its action is paused.",
    "cancelled": "Cancelled. Replay puts it back.",
}
PAGES = (
    ("/", "Overview"),
    ("/events", "Events"),
    ("/dead", "Dead deliveries"),
    ("/rejections", "Rejections"),
    ("/actions", "Actions"),
    ("/operators", "Operator log"),
)
WAYS = (("newest", "Newest"), ("newer", "Newer"), ("older", "Older"), ("oldest", "Oldest"))


def machine_time(ms: Any) -> str:
    """Return a time for the `datetime` of a <time>, which knows no microseconds; nothing for what
    is none."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError, TypeError):
        return ""


def pages() -> list[tuple[str, str]]:
    """Return the pages of the navigation: paths and titles."""
    return [*PAGES, *added("pages", "LINKS")]


def moment(ms: Any) -> str:
    """Return a time for people, UTC."""
    return visible(times.for_people(ms))


def ago(ms: Any, now_ms: int) -> str:
    """Return how long ago a time was, or in how long it will be."""
    if not isinstance(ms, int):
        return ""
    distance = abs(now_ms - ms)
    if distance < 1000:
        return "now"
    text = f"{distance // 1000} s" if distance < 60_000 else duration(distance)
    return f"{text} ago" if ms <= now_ms else f"in {text}"


def label(name: str) -> str:
    """Return the name of a column or an outcome for people: `not_verified` is not verified."""
    return re.sub(r"_ms$", "", name).replace("_", " ")


def css(word: Any) -> str:
    """Return a word as a part of a class's name; `other` for a foreign one."""
    return word if isinstance(word, str) and re.fullmatch("[a-z_]{1,20}", word) else "other"


def get(row: Any, name: str) -> Any:
    """Return a column, None where a row has none of that name."""
    return getattr(row, name, None)


def is_about_person(type_: str | None, outcome: str) -> bool:
    """Return whether an event says something of a person, so that its outcome means something."""
    return outcome != "unknown" or type_ is None or events.is_about_verification(type_)


def meaning(code: Any) -> str:
    """Return what Prembly documents of a response code; empty: nothing."""
    return payload.CODES.get(code, "") if isinstance(code, str) else ""


def standing(states: Sequence[str]) -> tuple[str, str]:
    """Return how an event stands by its deliveries: the state that is worst, and its words."""
    worst = _worst_of(states)
    if worst == filters.NONE:
        return worst, "no action"
    if worst == filters.DONE:
        return worst, "handled"
    if len(states) == 1:
        return worst, f"delivery {worst}"
    return worst, f"{states.count(worst)} of {len(states)} deliveries {worst}"


def _worst_of(states: Sequence[str]) -> str:
    """Return the worst of these states of an event's deliveries."""
    if not states:
        return filters.NONE
    return next((state for state in filters.UNDONE if state in states), filters.DONE)


def query(**filters: str) -> str:
    """Return the query of a URL."""
    return urlencode(filters)


def prose(text: str) -> str:
    """Return a sentence as HTML: all is escaped, and what stands in backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", xhtml_escape(visible(text)))
