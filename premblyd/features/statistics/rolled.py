"""How codes and types are counted by the hour: in a few shapes, so that what a sender makes up is
in no table of counts."""

import re

from premblyd.ground.privacy import is_code

OTHER = "other"
_MAX_CODE = 4  # characters
_TYPE = re.compile(r"[a-z0-9_.-]{1,48}")


def rolled_code(code: str | None) -> str:
    """Return a response code as it is counted."""
    if not code:
        return ""
    return code if len(code) <= _MAX_CODE and is_code(code) else OTHER


def rolled_type(name: str | None) -> str:
    """Return an event's type as it is counted."""
    if not name:
        return ""
    return name if _TYPE.fullmatch(name) else OTHER
