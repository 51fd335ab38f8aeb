"""What `premblyd check` says of retention."""

from collections.abc import Iterator
from typing import Any

from premblyd.config.models import Config
from premblyd.features.keeping import keepstatus
from premblyd.features.keeping.settings import RETENTION


def promises(settings: Config) -> Iterator[str]:
    """Yield which periods are in force."""
    yield f"Retention: {keepstatus.in_words(RETENTION.of(settings))}."


def as_json(settings: Config) -> dict[str, Any]:
    """Return the same for programs."""
    return {"retention": keepstatus.periods(RETENTION.of(settings))}


PROMISES = (promises,)
KEYS = (as_json,)
