"""How codes and types are counted by the hour: in a few shapes, so that what a sender makes up is
in no table of counts."""

import re

from premblyd.privacy.identifiers import is_code

OTHER = "other"  # stands for a code that is none of Prembly's shape
MISSING = ""
MAX_CODE = 4  # characters of a code of that shape
_TYPE = re.compile(r"[a-z0-9_.-]{1,48}")


def rolled_code(code: str | None) -> str:
    """Return a response code as it is counted."""
    if not code:
        return MISSING
    return code if len(code) <= MAX_CODE and is_code(code) else OTHER


def rolled_type(name: str | None) -> str:
    """Return an event's type as it is counted."""
    if not name:
        return MISSING
    return name if _TYPE.fullmatch(name) else OTHER
