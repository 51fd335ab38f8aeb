"""A payload as a tree to look at: bounded in what it shows, with photos as their sizes."""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tornado.escape import xhtml_escape

from premblyd.words import counted, size, visible

MAX_NODES = 2000
MAX_CHARACTERS = 1024  # of a text; a longer one is a photo, or is cut
_PHOTOS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"%PDF": "PDF",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value: a leaf with its text, or a branch with a summary and what is in it."""

    name: str
    text: str
    kind: str  # object, list, text, number, word, photo, more
    children: tuple["Node", ...] = ()


def of(document: Any, original: Any = None) -> Node:
    """Return the tree of `document`. Where it is masked, `original` is what it was made of, which
    tells the sizes of its photos."""
    return _Tree().node("", document, original)


class _Tree:
    def __init__(self) -> None:
        self._left = MAX_NODES

    def node(self, name: str, value: Any, original: Any) -> Node:
        self._left -= 1
        shown = visible(name)[:MAX_CHARACTERS]
        match value:
            case dict():
                children = tuple(self._children(value.items(), _values(original), len(value)))
                return Node(
                    name=shown, text=counted(len(value), "field"), kind="object", children=children
                )
            case list():
                items = ((str(index), item) for index, item in enumerate(value))
                children = tuple(self._children(items, _values(original), len(value)))
                return Node(
                    name=shown, text=counted(len(value), "item"), kind="list", children=children
                )
            case str():
                text, kind = _text(value, original if isinstance(original, str) else value)
                return Node(name=shown, text=text, kind=kind)
            case bool() | None:
                return Node(name=shown, text=_WORDS[value], kind="word")
            case _:
                return Node(name=shown, text=_number(value), kind="number")

    def _children(self, items: Any, originals: list[Any], count: int) -> Iterator[Node]:
        for index, (name, value) in enumerate(items):
            if self._left <= 0:
                more = f"{count - index:,} more; the JSON of this page has all"
                yield Node(name="…", text=more, kind="more")
                return
            original = originals[index] if index < len(originals) else None
            yield self.node(name, value, original)


_WORDS = {None: "null", True: "true", False: "false"}


def _values(original: Any) -> list[Any]:
    """Return what is in `original`, in the order in which its masked copy has it."""
    if isinstance(original, dict):
        return list(original.values())
    return original if isinstance(original, list) else []


def _text(value: str, original: str) -> tuple[str, str]:
    """Return how a text is shown, and of which kind it is."""
    if len(original) > MAX_CHARACTERS and (photo := _photo(original)):
        return photo, "photo"
    text = visible(value[:MAX_CHARACTERS])
    if len(value) > MAX_CHARACTERS:
        text += f"… ({len(value):,} characters)"
    return text, "text"


def _photo(text: str) -> str | None:
    """Return what a long base64 text is, with its size; None when it is none."""
    data = text.partition(",")[2] if text.startswith("data:") else text
    try:
        start = base64.b64decode(data[:64].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        return None
    kind = next((name for mark, name in _PHOTOS.items() if start.startswith(mark)), "base64")
    return f"{kind}, {size(len(data) * 3 // 4)}"


def _number(value: Any) -> str:
    try:
        return visible(value)[:MAX_CHARACTERS]
    except ValueError:  # an integer of more than 4,300 digits
        return "a very long number"


def html(node: Node) -> str:
    """Return a tree as nested lists, of which each branch can be closed. All text is escaped."""
    return f'<ul class="tree" aria-label="Payload">{"".join(map(_html, node.children))}</ul>'


def _html(node: Node) -> str:
    text, name = xhtml_escape(node.text), xhtml_escape(node.name)
    if not node.children:
        leaf = f'<bdi class="value {node.kind}">{text}</bdi>'
        return f'<li><bdi class="name">{name}</bdi> {leaf}</li>'
    inside = "".join(map(_html, node.children))
    head = f'<summary><bdi class="name">{name}</bdi> <span class="muted">{text}</span></summary>'
    return f"<li><details open>{head}<ul>{inside}</ul></details></li>"
