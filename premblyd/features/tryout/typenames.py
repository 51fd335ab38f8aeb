"""Which types of events an operator may have meant by a name or a pattern."""

import difflib

from premblyd.prembly.events import MEANINGS, NAME, OTHER_FAMILIES

# Prembly may send further names of these, so a type that begins like this may exist.
OPEN_FAMILIES = tuple(f"{name}." for name in (*OTHER_FAMILIES, "verification"))
# A pattern for each family: verification.*, transaction.*, …
FAMILIES = tuple(sorted({f"{type_.partition('.')[0]}.*" for type_ in MEANINGS if "." in type_}))


def can_be(name: str) -> bool:
    """Return whether an event can have this type: one of Prembly's documented ones, or another name
    that Prembly may send."""
    if name in MEANINGS:
        return True
    is_own = name.partition(".")[0] in ("sdk", "prembly")
    return "." in name and not is_own and NAME.fullmatch(name) is not None


def meant_by(name: str) -> str | None:
    """Return the documented type that somebody may have meant by `name`, which is none; None if
    there is no such."""
    if name in MEANINGS:
        return None
    word = name.strip().lower().replace("-", "_")
    least = 0.9 if can_be(name) else 0.6  # a name like another one may be Prembly's own
    close = difflib.get_close_matches(word, MEANINGS, n=1, cutoff=least)
    return close[0] if close else None


def pattern_meant_by(pattern: str) -> str | None:
    """Return the documented type, or family of types, that somebody may have meant by a pattern
    which fits none; None if there is no such."""
    if set(pattern) & {"*", "?"}:
        close = difflib.get_close_matches(pattern, FAMILIES, n=1)
        return close[0] if close else None
    is_family = f"{pattern}." in OPEN_FAMILIES and pattern not in MEANINGS
    return f"{pattern}.*" if is_family else meant_by(pattern)
