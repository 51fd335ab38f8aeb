"""The pages are true: their configurations load, commands and queries run, words exist."""

import functools
import itertools
import json
import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import click
import pytest

import premblyd
from premblyd.cli import COMMANDS, GROUPS, main
from premblyd.config.load import parse_config
from premblyd.config.secrets import SecretPlaces
from premblyd.model.columns import Holds, Kept, columns
from premblyd.model.tables import TABLES
from premblyd.prembly import samples
from premblyd.prembly.bodies import FIELDS
from premblyd.prembly.payload import WHEN_NAMES
from tests.support.commands import record, run
from tests.support.pages import (
    BLOCKS,
    EVERYTHING,
    PAGES,
    ROOT,
    Block,
    anchors,
    blocks,
    explained,
    first_cells,
    in_backticks,
    line_above,
    queries,
    without_blocks,
)
from tests.support.rows import for_each

SOURCES = sorted(Path(premblyd.__file__).parent.rglob("*.py"))
TAGS = set("sh yaml sql nginx caddy text python php javascript".split())
# What a fragment of a configuration leaves out.
BASE = {
    "database": "database: sqlite:///premblyd.db\n",
    "endpoints": "endpoints: [{name: prembly, path: /p, keys: {live: a-key}}]\n",
}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # good as a key, a header and a signing secret
# Of a stopped daemon; but not with --follow, which has no end.
SPECIAL = {"url": "https://example.com/hush"}  # by how a secret's name ends
HARMLESS = {"check", "events", "show", "deliveries", "explain", "replay", "stats"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """A premblyd command in a `sh` block: its page and line, and its arguments."""

    place: str
    arguments: list[str]

    def __str__(self) -> str:
        return self.place


def command_lines() -> Iterator[CommandLine]:
    """Yield every premblyd command of the pages."""
    for block in blocks("sh"):
        for number, line in enumerate(block.text.splitlines(), block.line + 1):
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            for is_operator, group in itertools.groupby(
                words, lambda word: word in {"|", "&&", ";"}
            ):
                command = list(group)
                if command[:2] == ["sudo", "-u"]:
                    command = command[3:]
                if command[0] == "sudo":
                    command = command[1:]
                if not is_operator and command[0].rpartition("/")[2] == "premblyd":
                    yield CommandLine(place=f"{block.page}:{number}", arguments=command[1:])


@functools.cache
def constants() -> list[str]:
    """Return every text in the source: what premblyd can say."""
    left: list[object] = [compile(path.read_bytes(), path, "exec") for path in SOURCES]
    found = []
    while left:
        match left.pop():
            case CodeType() as code:
                left += code.co_consts
            case tuple() | frozenset() as values:
                left += values
            case str() as text:
                found.append(text)
    return found


def test_every_block_says_what_it_is() -> None:
    assert {block.tag for block in BLOCKS} == TAGS


@for_each("block", blocks("yaml"))
def test_every_configuration_loads(block: Block, tmp_path: Path) -> None:
    for name in re.findall(r"file: ([\w-]+)", block.text):
        (tmp_path / name).write_text(f"{SPECIAL.get(name.rpartition('-')[2], SECRET)}\n")
    keys = set(re.findall(r"^(\w+):", block.text, re.MULTILINE))
    text = "".join(rest for key, rest in BASE.items() if key not in keys) + block.text
    parse_config(text, tmp_path / "premblyd.yaml", SecretPlaces(tmp_path, {}))


@for_each("line", list(command_lines()))
def test_every_command_parses_and_the_harmless_ones_run(
    line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = samples.sample("api")
    (tmp_path / "event.json").write_bytes(body)
    (tmp_path / "references.txt").write_text("ver_a_1\n")
    (tmp_path / "export.csv").write_text("name,reference\na,ver_a_1\n")
    monkeypatch.chdir(tmp_path)
    name, *rest = line.arguments
    group = click.Context(main, obj=tmp_path, **main.context_settings)
    command = main.get_command(group, name)
    if name in GROUPS:
        assert isinstance(command, click.Group)
        command = command.get_command(group, rest.pop(0))
    assert command is not None
    command.make_context(name, rest, parent=group).close()
    if name in HARMLESS and "--follow" not in line.arguments:
        done = run(*line.arguments, stdin=body, PREMBLYD_CONFIG=str(record(tmp_path)))
        assert (done.code, done.err) == (0, "")
        assert done.out.strip()


def test_a_request_is_answered_by_the_commands_of_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = record(tmp_path)
    monkeypatch.chdir(tmp_path)
    for line in command_lines():
        if line.place.startswith("docs/personal-data.md:"):
            done = run(*line.arguments, PREMBLYD_CONFIG=str(config))
            assert done.code == 0, f"{line}: {done.err}"
            assert "Nothing" not in done.out, line
    assert (tmp_path / "usr_000042.zip").stat().st_size


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("record")).with_name("premblyd.db")


UNANSWERED = ("What was skipped", "Which days are", "For whom has nothing come")  # in this record


@for_each("block", queries().values())
def test_premblyd_sql_answers_every_question_of_the_pages(block: Block, database: Path) -> None:
    done = run("sql", block.text, "--json", "--database", database)
    assert (done.code, done.err) == (0, "")
    answer = json.loads(done.out)
    for row in answer:
        assert "body" not in row
    question = line_above(block)
    assert "?" in question, "a question stands above each query"
    assert answer or question.startswith(UNANSWERED)


def test_the_cookbook_is_large() -> None:
    assert len(blocks("sql")) >= 12


def test_every_exit_status_is_told() -> None:
    statuses = re.findall(r"^- (\d+):", PAGES["docs/commands.md"], re.MULTILINE)
    assert statuses == ["0", "1", "2", "3", "75", "78"]
    named = set(re.findall(r"`premblyd ([a-z]+)", EVERYTHING))
    assert named <= {name.partition(" ")[0] for name in COMMANDS}


@for_each("name", COMMANDS)
def test_every_option_is_told(name: str) -> None:
    context = click.Context(main, **main.context_settings)
    group, _, last = name.rpartition(" ")
    within = main.get_command(context, group) if group else main
    assert isinstance(within, click.Group)
    command = within.get_command(context, last)
    assert command is not None
    options = [text for option in command.params for text in option.opts]
    assert [text for text in options if text.startswith("--") and text not in EVERYTHING] == []


def test_every_variable_of_a_hook_is_told() -> None:
    made = {text for text in constants() if re.fullmatch(r"PREMBLY_[A-Z_]+", text)}
    assert len(made) == 24
    assert {text for text in first_cells("docs/hooks.md") if text.startswith("PREMBLY_")} == made


def test_every_name_of_a_when_and_every_place_of_a_field_is_told() -> None:
    page = PAGES["docs/configuration.md"]
    assert set(WHEN_NAMES) <= set(first_cells("docs/configuration.md"))
    for name, places in FIELDS.items():
        assert f"- `{name}`: " + ", ".join(f"`{path}`" for path in places.paths) + "\n" in page


def test_every_event_of_the_log_is_told_and_none_else() -> None:
    rooms = (
        "action alert attempt checkin clock config console daemon dispatcher erasure hook host"
        " inquiry library log pending retention runner store webhook worker"
    )
    event = re.compile(rf"({rooms.replace(' ', '|')})\.[a-z_]+")
    logged = {text for text in constants() if event.fullmatch(text) and text[-3:] != "_ms"}
    page = PAGES["docs/monitoring.md"].partition("\n### Every event\n")[2]
    assert set(explained(page)) == logged
    assert len(logged) > 20


@for_each("message", first_cells("docs/troubleshooting.md"))
def test_every_message_that_is_explained_exists(message: str) -> None:
    for piece in message.split("…"):
        assert any(piece.strip() in text for text in constants()), piece


def test_every_table_and_view_is_told_and_no_column_that_is_not_there(database: Path) -> None:
    page = PAGES["docs/database.md"]
    own = page.partition("\n### For premblyd's own use\n")[2].partition("\n## ")[0]
    with closing(sqlite3.connect(database)) as connection:
        made = connection.execute(
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')"
            " AND name NOT LIKE 'sqlite%'"
        ).fetchall()
        told = set(re.findall(r"^### `(\w+)`$", page, re.MULTILINE)) | set(explained(own))
        assert told == {name for name, kind in made if kind == "table"}
        for name, kind in made:
            if kind == "view":
                assert f"`{name}`" in page
            elif name not in explained(own):
                section = page.partition(f"\n### `{name}`\n")[2].partition("\n### ")[0]
                columns = connection.execute("SELECT name FROM pragma_table_info(?)", (name,))
                assert set(explained(section)) <= {column for (column,) in columns}, name


def test_the_page_says_of_every_column_that_is_private_what_it_holds_and_for_how_long() -> None:
    page = PAGES["docs/personal-data.md"].partition("\n## What is where\n")[2]
    classes = dict(re.findall(r"^- \*\*([a-z ]+)\*\*\. (.*)$", page.partition("\n## ")[0], re.M))
    assert list(classes) == list(Kept)
    kinds = ("Personal data", "Secrets", "Hashes")
    told = {
        (table, name): (holds, Kept(kept))
        for kept, text in classes.items()
        for kind, places in re.findall(r"([A-Z][a-z, ]+): ([^.]+)", text)
        for holds in [list(Holds)[1 + kinds.index(kind)]]
        for table, names in re.findall(r"`(\w+)` \((.*?)\)", places)
        for name in in_backticks(names)
    }
    assert told == {
        (table._meta.table_name, column.column_name): (column.holds, column.kept)
        for table in TABLES
        for column in columns(table)
        if column.holds is not Holds.PLAIN
    }


@for_each("page", PAGES)
def test_every_table_is_whole(page: str) -> None:
    tables = re.findall(r"^\|.*\n(?:\|.*\n)*", without_blocks(page), re.MULTILINE)
    for head, rule, *rows in map(str.splitlines, tables):
        assert re.fullmatch(r"(\|---)+\|", rule), (
            f"an empty line cuts it, or it has no head: {head}"
        )
        columns = rule.count("---")
        cells = [len(re.split(r"(?<!\\)\|", row)) - 2 for row in (head, *rows)]
        assert set(cells) == {columns}, head


@for_each("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", without_blocks(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(str(file.resolve().relative_to(ROOT))), target


@for_each("page", [page for page in PAGES if page != "README.md"])
def test_every_page_begins_with_its_question_and_the_readme_names_it(page: str) -> None:
    title = PAGES[page].splitlines()[0]
    assert title.startswith("# ")
    assert title.endswith("?")
    assert re.search(
        rf"^- {re.escape(title.removeprefix('# '))} \[.+\]\({page}\)$", PAGES["README.md"], re.M
    )


def test_the_readme_is_short_and_shows_ten_commands() -> None:
    assert len(PAGES["README.md"].split()) <= 1300
    shown = re.findall(r"^- `premblyd (\w+)", PAGES["README.md"], re.MULTILINE)
    assert len(shown) == len(set(shown) & COMMANDS.keys()) == 10


def test_the_page_of_commands_shows_every_command_in_the_order_of_help() -> None:
    page = PAGES["docs/commands.md"].partition("\n## ")[0]
    assert re.findall(r"^- `premblyd ([a-z ]*[a-z])", page, re.MULTILINE) == list(COMMANDS)


def test_the_map_shows_every_room_and_nothing_else() -> None:
    (text,) = (block.text for block in BLOCKS if block.text.startswith("premblyd/cli/"))
    shown = {line.split()[0] for line in text.splitlines() if line}
    assert [name for name in shown if not (ROOT / name).exists()] == []
    package = ROOT / "premblyd"
    rooms = {path.name for path in package.glob("[!_]*.py")} | {
        f"{path.parent.name}/" for path in package.glob("*/__init__.py")
    }
    assert {f"premblyd/{room}" for room in rooms} <= shown
    for room, *words in (line.split() for line in text.splitlines() if line):
        files = re.findall(r"\b\w+\.py\b", " ".join(words))
        assert [name for name in files if not (ROOT / room / name).exists()] == [], room


def test_every_file_that_contributors_are_sent_to_is_there() -> None:
    names = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", PAGES["CONTRIBUTING.md"]))
    missing = {
        name for name in names if not any((ROOT / top / name).exists() for top in ("", "premblyd"))
    }
    assert missing == {"premblyd/run/queue.py"}  # the example's


def test_every_hop_of_a_webhook_is_where_the_page_says() -> None:
    hops = re.findall(r"^\| \d \| `(.+?)`(?:, `(.+?)`)? \|", PAGES["CONTRIBUTING.md"], re.MULTILINE)
    assert len(hops) == 13
    for path, names in hops:
        source = (ROOT / "premblyd" / path).read_text()
        for name in filter(None, names.split(".")):
            assert re.search(rf"^ *(?:class|(?:async )?def) {name}\b", source, re.MULTILINE), (
                f"{path}: {name}"
            )
