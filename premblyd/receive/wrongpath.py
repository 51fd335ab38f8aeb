"""How a request's path differs from an endpoint's that it resembles: a hint for the operator, who
may have mistyped the URL at Prembly or in the proxy."""

from collections.abc import Sequence
from urllib.parse import unquote

from premblyd.config.models import Endpoint

MAX_TYPOS = 3  # characters in which a path may differ and still be meant for an endpoint


def difference(path: str, endpoints: Sequence[Endpoint]) -> str | None:
    """Return in words how `path` differs from the endpoint's that it resembles, or None. Neither
    is quoted."""
    for endpoint in endpoints:
        if found := _difference(path, endpoint.path):
            return found.format(f"endpoint {endpoint.name}'s path")
    return None


def _difference(path: str, right: str) -> str | None:
    if path.rstrip("/") == right.rstrip("/"):
        return "differs from {} by a trailing slash"
    if path.casefold() == right.casefold():
        return "differs from {} in upper and lower case"
    if unquote(path) == right or path.replace("//", "/") == right:
        return "is {} written in another way: percent signs or doubled slashes"
    if path.startswith(right.rstrip("/") + "/"):
        return "goes on after {}"
    if path.endswith(right):
        return "has something before {}: does the proxy pass on its own prefix?"
    if len(path) > 1 and right.endswith(path):
        return "is the end of {}: does the proxy cut off the beginning?"
    if len(path) > 1 and right.startswith(path.rstrip("/") + "/"):
        return "is the beginning of {}"
    start = _same_characters(path, right)
    end = _same_characters(path[start:][::-1], right[start:][::-1])
    differing_characters = max(len(path), len(right)) - start - end
    if differing_characters <= min(MAX_TYPOS, len(right) // 3):
        what = (
            "one character" if differing_characters == 1 else f"{differing_characters} characters"
        )
        return f"differs from {{}} by no more than {what}"
    return None


def _same_characters(text: str, other: str) -> int:
    """Return with how many characters both begin."""
    pairs = zip(text, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(text), len(other)))
