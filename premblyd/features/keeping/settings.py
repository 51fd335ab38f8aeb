"""How long data is kept."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from premblyd.config.keys import ActionKey, Section
from premblyd.config.values import Model

HOUR_MS = 3_600_000
_PERIOD_MS = {"h": HOUR_MS, "d": 24 * HOUR_MS, "w": 7 * 24 * HOUR_MS, "y": 366 * 24 * HOUR_MS}
_MAX_PERIOD_MS = 100 * _PERIOD_MS["y"]


def period_ms(text: Any) -> int:
    """Read `12h 7d 4w 5y` as milliseconds; a year has 366 days, so that it is never shorter than
    the calendar's. Raise ValueError for anything else."""
    match = re.fullmatch(r"(\d{1,6}) ?(h|d|w|y)", str(text))
    if not match or not int(match[1]):
        raise ValueError("should be a period such as 12h, 7d, 4w or 5y")
    milliseconds = int(match[1]) * _PERIOD_MS[match[2]]
    if milliseconds > _MAX_PERIOD_MS:
        raise ValueError("should be at most 100y")
    return milliseconds


def period_text(ms: int) -> str:
    """Return a period as files mostly have it, in years, days or hours: 5y, 7d."""
    unit = next(
        (unit for unit in "yd" if ms >= _PERIOD_MS[unit] and not ms % _PERIOD_MS[unit]), "h"
    )
    return f"{ms // _PERIOD_MS[unit]}{unit}"


Period = Annotated[int, BeforeValidator(period_ms)]


class Retention(Model):
    """After how long what is stored is removed, class by class; None: it is kept. What goes with a
    later class goes with an earlier one too: no body outlasts the identity in it. All of it counts
    from receipt."""

    body_ms: Period | None = Field(None, alias="body")
    identity_ms: Period | None = Field(None, alias="identity")
    record_ms: Period | None = Field(None, alias="record")
    rejections_ms: Period | None = Field(None, alias="rejections")

    @property
    def names_ms(self) -> int | None:
        """After how long nothing is known by its reference any more; None: it always is."""
        periods = [each for each in (self.identity_ms, self.record_ms) if each is not None]
        return min(periods, default=None)


RETENTION = Section("retention", Retention, Retention())
# Whether the hook runs, without a body, for what comes of a person who was erased.
ERASED: ActionKey[Literal["skip", "run"]] = ActionKey(
    "erased", Annotated[Literal["skip", "run"], Field(repr=False)], "skip"
)
SECTIONS = (RETENTION,)
ACTION_KEYS = (ERASED,)
# No log may outlast what names a person.
LOGS_REFERENCES = (lambda settings: RETENTION.of(settings).identity_ms is None,)
