"""The arrows between the rooms: imports point down only. Read from the source, not by importing."""

import ast
import functools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import premblyd
from premblyd.features import FEATURES
from tests.support.rows import for_each

ROOT = Path(premblyd.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 600  # of a file: it is one thing
# Alone on its line or lines, as ruff has it. To parse all of the source takes a second.
IMPORT = re.compile(r"^ *(?:import \w.*|from [\w.]+ import (?:\([^)]*\)|.*))$", re.MULTILINE)

# The rooms of the core, from the lowest to the highest, and those that each imports besides the
# ground: all of them, so an arrow that nobody uses any more goes. Itself is understood.
ROOMS = {
    "ground": "",
    "prembly": "",
    "config": "prembly",
    "store": "",
    "queue": "config prembly store",
    "receive": "config prembly queue",
    "run": "config prembly queue store",
    "record": "config prembly queue store",
    "services": "config queue run store",
    "presence": "config receive",
    "daemon": "config presence queue receive run services store",
    "process": "config daemon run",
    "cli": "config presence process receive record store",
    "__main__": "cli",
}
# How many lines a room may have. What needs more shows first what can go.
BUDGETS = """
ground 2340, prembly 1320, config 1520, store 2370, queue 2550, receive 1600, run 1775, record 2470,
services 70, presence 140, daemon 315, process 175, cli 1790, __main__ 5, __init__ 5, feature 117,
features 20, postgresql 2960, encryption 515, keeping 4133, pause 370, reading 300, names 190,
worker 950, turns 1010, asking 5990, statistics 630, watch 1030, backup 1030, console 2350,
tryout 1615
"""
# Libraries that stay in their rooms; a path names a part of a room.
LIBRARIES = {
    "peewee": "store queue record features",
    "sqlite3": "store/sqlite features/backup features/encryption features/postgresql/moving.py"
    " cli/sql.py",
    "sqlcipher3": "features/encryption/cipher.py",
    "psycopg": "features/postgresql",
    "tornado": "receive features/console ground/httpclient.py features/keeping/personzip.py",
    "pycurl": "ground/httpclient.py",
    "prometheus_client": "features/watch/families.py",
    "click": "cli features",
    "rich": "cli features",
    "structlog": "ground/__init__.py ground/logs.py",
    "pydantic": "config features",
    "yaml": "config/yamltext.py",
    "jmespath": "ground/expressions.py",
}


def room(module: Path) -> str:
    """Return the room of a file: `queue` for queue/inbox.py, `daemon` for daemon.py; of a feature's
    file, the feature."""
    return _room(module.relative_to(ROOT).parts)


def _room(parts: Sequence[str]) -> str:
    if parts[0] == "features" and len(parts) > 2:
        return parts[1]
    return parts[0].removesuffix(".py")


@functools.cache
def imports(module: Path) -> list[str]:
    """Return the full names of what a file imports, also inside functions and for types alone."""
    names: list[str] = []
    for line in IMPORT.findall(module.read_text()):
        (node,) = ast.parse(line.strip()).body
        if isinstance(node, ast.Import):
            names += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names += [f"{node.module}.{name.name}" for name in node.names]
    return names


def dotted_name(module: Path) -> str:
    """Return the name by which a file is imported: premblyd.queue.inbox, premblyd.queue."""
    parts = module.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def reached(module: Path) -> set[str]:
    """Return the rooms and features that a file imports."""
    names = (name.split(".") for name in imports(module))
    found = {_room(rest) for package, *rest in names if package == "premblyd"}
    return found - {"__version__", "feature", "features", room(module)}


def importing(*modules: str) -> set[str]:
    """Return the files that import one of these modules, or what is in them."""
    below = tuple(f"{module}." for module in modules)
    return {
        file.relative_to(ROOT).as_posix()
        for file in FILES
        if any(f"{name}.".startswith(below) for name in imports(file))
    }


def outside(files: set[str], rooms: str) -> set[str]:
    """Return those of the files that are in none of these rooms, and none of them."""
    places = [Path(place) for place in rooms.split()] + [Path(f"{own}.py") for own in rooms.split()]
    return {file for file in files if not {Path(file), *Path(file).parents} & set(places)}


@for_each("own", ROOMS)
def test_a_room_imports_what_the_table_says_and_only_what_stands_above_it(own: str) -> None:
    arrows = set().union(*(reached(module) for module in FILES if room(module) == own))
    assert arrows - {"ground", *FEATURES} == set(ROOMS[own].split())
    order = list(ROOMS)
    assert set(ROOMS[own].split()) <= set(order[: order.index(own)])


def test_every_module_has_its_room() -> None:
    rooms = {*map(room, FILES)} - {"__init__"}
    assert rooms == {*ROOMS, *FEATURES, "feature", "features"}
    assert imports(ROOT / "__init__.py") == [], "the package itself imports nothing"


def test_the_core_imports_no_feature_and_a_feature_only_those_that_it_needs() -> None:
    found = {
        f"{module.relative_to(ROOT).as_posix()} {feature}"
        for module in FILES
        for feature in reached(module).intersection(FEATURES)
        if feature not in FEATURES.get(room(module), ())
        # Pages of a feature: only the console imports them.
        if (module.name, feature) != ("pages.py", "console")
    }
    assert not importing(*(f"premblyd.features.{feature}.pages" for feature in FEATURES))
    assert not found


def test_tests_lie_in_folders_as_the_code_does_and_those_of_the_core_import_no_feature() -> None:
    """(That they pass without any, `-m large` holds.)"""
    core = TESTS / "core"
    assert {path.name for path in TESTS.glob("features/[a-z]*/")} == set(FEATURES)
    assert {path.name for path in core.glob("[a-z]*/")} <= set(ROOMS)
    modules = core.rglob("*.py")
    assert not [each for each in modules if re.search(r"\bfeatures\.\w", each.read_text())]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also within a room, and also for types alone: what needs each other is one thing."""
    left: dict[str, set[str]] = {dotted_name(module): set() for module in FILES}
    for module in FILES:
        own = dotted_name(module)
        # An import reaches a module, or what is in one.
        named = {name if name in left else name.rpartition(".")[0] for name in imports(module)}
        left[own] = named & left.keys() - {own}
    while lowest := {name for name, reached in left.items() if not reached & left.keys()}:
        left = {name: reached for name, reached in left.items() if name not in lowest}
    assert not left, "in a circle, or above one"


@for_each(("library", "rooms"), LIBRARIES.items())
def test_a_library_stays_in_its_rooms(library: str, rooms: str) -> None:
    users = importing(library)
    assert users, f"nothing uses {library}"
    assert outside(users, rooms) == set()


def test_no_module_is_too_long_to_read() -> None:
    lengths = {dotted_name(module): len(module.read_text().splitlines()) for module in FILES}
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_LINES}


def test_no_room_is_larger_than_its_budget() -> None:
    sizes, budgets = Counter[str](), dict(each.split() for each in BUDGETS.split(","))
    for module in FILES:
        sizes[room(module)] += len(module.read_text().splitlines())
    assert not {own: lines for own, lines in sizes.items() if lines > int(budgets[own])}


def test_every_folder_with_modules_is_a_package() -> None:
    """Without __init__.py it runs from a checkout, and is missing where premblyd is installed."""
    folders = {module.parent for module in FILES}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
