"""The pages are true: their configurations load, commands and queries run, words exist."""

import functools
import itertools
import json
import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

import click
import pytest

import premblyd
from premblyd.cli import COMMANDS, GROUPS, main
from premblyd.features import FEATURES
from premblyd.features.tryout import samples
from premblyd.prembly.bodies import FIELDS
from premblyd.prembly.payload import WHEN_NAMES
from premblyd.store.columns import Holds, Kept, columns
from premblyd.store.schema import TABLES
from tests.support.commands import record, run
from tests.support.jobs import invocation
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
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # good as a key, a header and a signing secret
# Of a stopped daemon.
HARMLESS = {"check", "events", "show", "deliveries", "explain", "replay", "stats"}


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield the page of every premblyd command in a `sh` block, and its arguments."""
    for block in blocks("sh"):
        for line in block.text.splitlines():
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            for is_operator, group in itertools.groupby(words, {"|", "&&", ";"}.__contains__):
                command = list(group)
                command = command[3:] if command[:2] == ["sudo", "-u"] else command
                command = command[1:] if command[0] == "sudo" else command
                if not is_operator and command[0].rpartition("/")[2] == "premblyd":
                    yield block.page, command[1:]


def command_named(name: str) -> tuple[click.Context, click.Command]:
    """Return a command, with the context of what it is a part of."""
    context = click.Context(main, **main.context_settings)
    group, _, last = name.rpartition(" ")
    within = main.get_command(context, group) if group else main
    assert isinstance(within, click.Group)
    command = within.get_command(context, last)
    assert command is not None
    return context, command


@functools.cache
def constants() -> list[str]:
    """Return every text in the source: what premblyd can say."""
    # As Python keeps it compiled, which is quicker than to compile it.
    left: list[object] = [SourceFileLoader("_", str(path)).get_code("_") for path in SOURCES]
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


def test_every_command_parses_and_the_harmless_ones_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = samples.sample("api")
    (tmp_path / "event.json").write_bytes(body)
    (tmp_path / "references.txt").write_text("ver_a_1\n")
    (tmp_path / "export.csv").write_text("name,reference\na,ver_a_1\n")
    monkeypatch.chdir(tmp_path)
    config, before = "", ""
    for page, (name, *rest) in command_lines():
        is_run = name in HARMLESS
        typed = [name, *rest]
        full = f"{name} {rest.pop(0)}" if name in GROUPS else name
        context, command = command_named(full)
        command.make_context(full, rest, parent=context).close()
        is_of_request = page == "docs/personal-data.md"  # all are of one
        if is_run or is_of_request:
            if not (is_of_request and before == page):
                config, before = str(record(tmp_path)), page
            done = run(*typed, stdin=body, PREMBLYD_CONFIG=config)
            assert done.code == 0, f"{typed}: {done.err}"
            assert done.err == "" or not is_run, typed
            assert done.out.strip() or not is_run, typed
            assert is_run or "Nothing" not in done.out, typed
    assert (tmp_path / "usr_000042.zip").stat().st_size


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("record")).with_name("premblyd.db")


UNANSWERED = ("What was skipped", "Which days are", "For whom has nothing come")  # in this record


@for_each("block", queries().values())
def test_premblyd_sql_answers_every_question_of_the_pages(block: Block, database: Path) -> None:
    done = run("sql", block.text, "--json", "--database", database)
    assert (done.code, done.err) == (0, "")
    answer, question = json.loads(done.out), line_above(block)
    assert not any("body" in row for row in answer)
    assert "?" in question, "a question stands above each query"
    assert answer or question.startswith(UNANSWERED)


def test_every_command_option_and_exit_status_is_told() -> None:
    statuses = re.findall(r"^- (\d+):", PAGES["docs/commands.md"], re.MULTILINE)
    assert statuses == ["0", "1", "2", "3", "75", "78"]
    named = set(re.findall(r"`premblyd ([a-z]+)", EVERYTHING))
    assert named <= {name.partition(" ")[0] for name in COMMANDS}
    for name in COMMANDS:
        options = [text for option in command_named(name)[1].params for text in option.opts]
        assert not [text for text in options if text[:2] == "--" and text not in EVERYTHING], name
    page = PAGES["docs/commands.md"].partition("\n## ")[0]
    assert {*re.findall(r"^- `premblyd ([a-z ]*[a-z])", page, re.MULTILINE)} == {*COMMANDS}
    assert len(PAGES["README.md"].split()) <= 1300
    shown = re.findall(r"^- `premblyd (\w+)", PAGES["README.md"], re.MULTILINE)
    assert len(shown) == len(set(shown) & COMMANDS.keys()) == 10


def test_every_variable_of_a_hook_is_told() -> None:
    made = {text for text in constants() if re.fullmatch(r"PREMBLY_[A-Z_]+", text)}
    made |= set(invocation().environment)
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


def test_contributors_find_every_room_file_and_hop_where_the_page_says() -> None:
    page, package = PAGES["CONTRIBUTING.md"], ROOT / "premblyd"
    (text,) = (block.text for block in BLOCKS if block.text.startswith("premblyd/cli/"))
    shown = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    rooms = {path.name for path in package.glob("[!_]*.py")}
    rooms |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    rooms |= {f"features/{feature}/" for feature in FEATURES}
    assert {f"premblyd/{room}" for room in rooms} <= shown.keys()
    for room, words in shown.items():
        for name in ("", *re.findall(r"\b\w+\.py\b", " ".join(words))):
            assert (ROOT / room / name).exists(), (room, name)

    names = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", page))
    missing = {name for name in names if not any((top / name).exists() for top in (ROOT, package))}
    assert missing == {"premblyd/run/queue.py"}  # the example's

    hops = re.findall(r"^\| \d \| `(.+?)`(?:, `(.+?)`)? \|", page, re.MULTILINE)
    assert len(hops) == 13
    for path, hop in hops:
        for name in filter(None, hop.split(".")):
            defined = rf"^ *(?:class|(?:async )?def) {name}\b"
            assert re.search(defined, (package / path).read_text(), re.MULTILINE), (path, name)
