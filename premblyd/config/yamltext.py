"""YAML text as plain data in which every value knows its line.

Scalars stay text: `00` and `01` are response codes, not the numbers 0 and 1, and `no` is Norway.
What they become is decided by the expected type, in models.py.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from premblyd.ground.errors import PremblydError

Path = tuple[str | int, ...]
MAX_REPEATED = 250_000  # aliases of aliases grow tenfold with each line
# PyYAML's messages quote the names of aliases, anchors and tags. A secret that begins with * & or !
# and is not in quotes is read as such a name, so these are left out.
_QUOTED = re.compile(r"'[\w!-]{2,}'")
# What PyYAML says, and what is usually the matter. (`[*]` is an alias without a name.)
_HINTS = (
    (r"found character '\\t'", "indent with spaces, not with tabs"),
    (r"that cannot start any token", "text that begins so must stand in quotes"),
    (r"expected alphabetic or numeric character", "text that begins so must stand in quotes"),
    (
        r"mapping values are not allowed here",
        "text with `: ` in it must stand in quotes; or the line is indented too far, or the line"
        " above has no space after its colon",
    ),
    (r"expected <block end>", "the line is indented otherwise than those that it belongs to"),
    (r"could not find expected ':'", "a line above has no `: ` (with the space) after its key"),
    (r"expected ',' or '[]}]'", "a quote, a comma or the bracket's end is missing, here or above"),
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the text, counted from 1."""

    line: int
    column: int


class YamlTextError(PremblydError, ValueError):
    """The text is not YAML that premblyd reads. `mark` is the place."""

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.mark = mark


@dataclass(slots=True)
class Document:
    """Plain data, with the place of each value and of each key by path."""

    data: Any = None
    values: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)
    _met: set[int] = field(default_factory=set)
    repeated: int = 0  # values that an alias has brought to another place

    def count_if_repeated(self, node: yaml.Node) -> int:
        """Count a node that was met before; return how many were."""
        if id(node) in self._met:
            self.repeated += 1
        self._met.add(id(node))
        return self.repeated

    def mark(self, path: Path, *, key: bool = False) -> Mark:
        """Return the place of `path`, or of the nearest thing around it that has one."""
        while path:
            if key and path in self.keys:
                return self.keys[path]
            if path in self.values:
                return self.values[path]
            path = path[:-1]
        return self.values.get((), Mark(1, 1))


class _Loader(yaml.SafeLoader):
    """Refuses YAML's tags. `when: ! face_match` would be the tag `!` and the expression
    `face_match`: the opposite of what is written."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None and not tag.startswith("tag:yaml.org,2002:"):
            mark = _mark(event.start_mark)
            raise YamlTextError("a value that begins with ! must stand in quotes", mark)
        return super().compose_node(parent, index)


def load(text: str) -> Document:
    """Read `text`. Raise YamlTextError with a place when it is not YAML, names a key twice, has a
    tag, or nests an anchor in itself."""
    document = Document()
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _mark(mark) if mark else Mark(1, 1)
        problem = _QUOTED.sub("'…'", error.problem or error.context or "")
        hint = next((f" ({hint})" for said, hint in _HINTS if re.search(said, problem)), "")
        raise YamlTextError(f"not YAML: {problem}{hint}", place) from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "nested too deeply"
        raise YamlTextError(f"not YAML: {reason}", Mark(1, 1)) from None
    try:
        document.data = None if root is None else _plain(root, (), document, ())
    except RecursionError:  # aliases nest deeper than their text
        raise YamlTextError("not YAML: nested too deeply", Mark(1, 1)) from None
    return document


def _plain(node: yaml.Node, path: Path, document: Document, inside: tuple[yaml.Node, ...]) -> Any:
    if document.count_if_repeated(node) > MAX_REPEATED:
        reason = f"aliases repeat more than {MAX_REPEATED:,} values"
        raise YamlTextError(f"not YAML that is read here: {reason}", _mark(node.start_mark))
    document.values[path] = _mark(node.start_mark)
    if node in inside:
        raise YamlTextError("an anchor can't contain itself", _mark(node.start_mark))
    inside = (*inside, node)
    match node:
        case yaml.MappingNode():
            return _mapping(node, path, document, inside)
        case yaml.SequenceNode():
            return [
                _plain(child, (*path, index), document, inside)
                for index, child in enumerate(node.value)
            ]
        case _:
            # A key with nothing, `null` or `~` behind it counts as left out: a section whose
            # lines are all commented out keeps its default.
            is_null = node.tag == "tag:yaml.org,2002:null"
            return None if is_null else _text(node)


def _mapping(
    node: yaml.MappingNode, path: Path, document: Document, inside: tuple[yaml.Node, ...]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        mark = _mark(key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlTextError("a key must be plain text", mark)
        key = _text(key_node)
        if key in result:
            first = document.keys[*path, key].line
            is_one = isinstance(value_node, yaml.ScalarNode)
            remedy = "keep one" if is_one else "put the entries of both into one"
            problem = f"{key!r} is given twice, first in line {first}: {remedy}"
            raise YamlTextError(problem, mark)
        document.keys[(*path, key)] = mark
        value = _plain(value_node, (*path, key), document, inside)
        result[key] = value
    return {key: value for key, value in result.items() if value is not None}


def _text(node: yaml.Node) -> str:
    text = str(node.value)
    try:
        text.encode()
    except UnicodeEncodeError:  # "\ud800" is YAML, and no text
        raise YamlTextError("half a character can't stand alone", _mark(node.start_mark)) from None
    return text


def _mark(mark: yaml.Mark) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)
