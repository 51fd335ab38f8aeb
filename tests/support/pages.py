"""The pages that users read (README.md, docs/, CONTRIBUTING.md) and the blocks of code on them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md")
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
EVERYTHING = "\n".join(PAGES.values())


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: what it is (`tag`), and where (`line` is that of its first fence)."""

    page: str
    line: int
    tag: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _fenced(page: str) -> Iterator[Block]:
    """Yield every fenced block of a page, without the indent that a list gives it."""
    inside: Block | None = None
    indent = ""
    for number, line in enumerate(PAGES[page].splitlines(), 1):
        if found := re.fullmatch(r"( *)```(.*)", line):
            if inside:
                yield inside
            indent = found[1]
            inside = None if inside else Block(page, number, found[2], "")
        elif inside:
            text = f"{inside.text}{line.removeprefix(indent)}\n"
            inside = Block(page, inside.line, inside.tag, text)
    assert inside is None, f"a block of {page} is not closed"


BLOCKS = [block for page in PAGES for block in _fenced(page)]


def blocks(tag: str) -> list[Block]:
    """Return the blocks that are of one kind, such as `yaml`."""
    found = [block for block in BLOCKS if block.tag == tag]
    assert found
    return found


def line_above(block: Block) -> str:
    """Return the paragraph just above a block, if it is one line."""
    return PAGES[block.page].splitlines()[block.line - 3]


ON_POSTGRESQL = "On PostgreSQL:"  # stands above a query's second form


def queries(*, for_postgresql: bool = False) -> dict[str, Block]:
    """Return the queries of the pages by their questions, as SQLite or PostgreSQL takes them: by
    the words that the cookbook tells, or a second form."""
    found: dict[str, Block] = {}
    question = ""
    for block in blocks("sql"):
        if line_above(block) != ON_POSTGRESQL:
            question = line_above(block)
            found[question] = in_words_of_postgresql(block) if for_postgresql else block
        elif for_postgresql:
            found[question] = block
    return found


def in_words_of_postgresql(query: Block) -> Block:
    text = query.text
    (line,) = re.findall(r"^On PostgreSQL write .*", PAGES[query.page], re.MULTILINE)
    words = in_backticks(line)
    for theirs, ours in zip(words[::2], words[1::2], strict=True):
        pattern = re.escape(ours).replace("…", "(.+?)")
        text = re.sub(pattern, theirs.replace("…", r"\1"), text)
    return replace(query, text=text)


def first_cells(page: str) -> list[str]:
    """Return what stands in backticks in the first column of a page's tables, and what its lists
    explain."""
    cells = re.findall(r"^\| (.*?) \|", PAGES[page], re.MULTILINE)
    return [text for cell in cells for text in in_backticks(cell)] + explained(PAGES[page])


def in_backticks(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def explained(text: str) -> list[str]:
    """Return what stands in backticks at the beginning of the items of lists."""
    heads = re.findall(r"^ *- ((?:`[^`]+`(?:, )?)+)", text, re.MULTILINE)
    return [name for head in heads for name in in_backticks(head)]


def without_blocks(page: str) -> str:
    """Return what a page says outside its fenced blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", PAGES[page])


def anchors(page: str) -> set[str]:
    """Return the names that GitHub gives to a page's headings."""
    titles = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
