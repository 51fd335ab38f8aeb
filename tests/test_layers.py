"""The arrows between the rooms: imports point down only. Read from the source, not by importing."""

import ast
import functools
import re
from pathlib import Path

import premblyd
from tests.support.rows import for_each

ROOT = Path(premblyd.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 450
# Alone on its line or lines, as ruff has it. To parse all of the source takes a second.
IMPORT = re.compile(r"^ *(?:import \w.*|from [\w.]+ import (?:\([^)]*\)|.*))$", re.MULTILINE)

# What all stand on: any room may import it. Each line may import those above it.
GROUND = (
    "databases errors procfs times version words",
    "csvtext httpclient jsontext keyfile newfile privacy systemd",
    "logs",
    "expressions telemetry",
)
# Each room, from the lowest to the highest, and the rooms that it imports besides the ground: all
# of them, so an arrow that nobody uses any more goes. Itself is understood.
ROOMS = {
    "loops": "",
    "model": "",
    "prembly": "",
    "config": "prembly",
    "engines": "model",
    "verifications": "engines model prembly",
    "listening": "config",
    "move": "engines model",
    "routing": "config prembly",
    "presence": "config listening",
    "queue": "engines loops model prembly verifications",
    "ask": "config loops model prembly queue routing verifications",
    "hosts": "config engines loops model queue verifications",
    "keep": "config engines hosts loops model prembly queue verifications",
    "copies": "engines keep model",
    "receive": "config prembly queue routing",
    "run": "config loops model prembly queue",
    "explaining": "config prembly routing run",
    "lint": "config prembly routing run",
    "record": "ask config engines hosts keep model prembly queue routing verifications",
    "alerts": "config engines loops model queue record run",
    "metrics": "config engines model prembly queue record",
    "console": "config engines explaining listening metrics model prembly receive record",
    "daemon": (
        "alerts ask config console engines hosts keep listening"
        " loops metrics presence queue receive run verifications"
    ),
    "process": "config daemon run",
    "cli": (
        "alerts ask config copies daemon engines explaining keep lint listening move"
        " prembly presence process queue record routing run"
    ),
    "__main__": "cli",
}
# Libraries that stay in their rooms; a path names a part of a room.
LIBRARIES = {
    "peewee": "model engines move queue verifications hosts/register.py keep record",
    "sqlite3": "engines/sqlite move/sqlite.py cli/sql.py",
    "sqlcipher3": "engines/sqlite/cipher.py",
    "psycopg": "engines/postgresql move/postgresql.py",
    "tornado": "receive console listening httpclient.py record/personzip.py",
    "pycurl": "httpclient.py",
    "prometheus_client": "metrics/families.py",
    "click": "cli",
    "rich": "cli",
    "structlog": "logs",
    "pydantic": "config",
    "yaml": "config/yamltext.py",
    "jmespath": "expressions",
}
ENGINES = ("premblyd.engines.sqlite", "premblyd.engines.postgresql")
GROUND_ROOMS = [room for line in GROUND for room in line.split()]


def room(module: Path) -> str:
    """Return the room of a file: `queue` for queue/inbox.py, `daemon` for daemon.py."""
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


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
    """Return the rooms that a file imports."""
    names = (name.split(".") for name in imports(module))
    found = {rest[0] for package, *rest in names if package == "premblyd"}
    return {"version" if name == "__version__" else name for name in found}


def arrows(own: str) -> set[str]:
    """Return the other rooms that a room imports."""
    return set().union(*(reached(module) for module in FILES if room(module) == own)) - {own}


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


def test_imports_point_down_only() -> None:
    below: set[str] = set()
    for line in GROUND:
        for own in line.split():
            assert arrows(own) <= below, f"{own} may not import {arrows(own) - below}"
        below.update(line.split())


@for_each("own", ROOMS)
def test_a_room_imports_what_the_table_says_and_only_what_stands_above_it(own: str) -> None:
    assert arrows(own) - set(GROUND_ROOMS) == set(ROOMS[own].split())
    order = list(ROOMS)
    assert set(ROOMS[own].split()) <= set(order[: order.index(own)])


def test_every_module_has_its_room() -> None:
    rooms = {*map(room, FILES)} - {"__init__"}
    assert rooms == {*ROOMS, *GROUND_ROOMS} - {"version"}
    assert imports(ROOT / "__init__.py") == [], "the package itself imports nothing"


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


def test_few_modules_name_an_engine_and_only_its_command_knows_move() -> None:
    """`connections` chooses one for all, `move` knows both, and only files are copied."""
    copying = {f"copies/{name}.py" for name in ("copying", "encrypting", "restoring")}
    moving = {"move/postgresql.py", "move/sqlite.py", "engines/connections.py"}
    users = outside(importing(*ENGINES), "engines/sqlite engines/postgresql")
    assert users == copying | moving
    assert outside(importing("premblyd.move"), "move") == {"cli/move.py"}


def test_no_module_is_too_long_to_read() -> None:
    lengths = {dotted_name(module): len(module.read_text().splitlines()) for module in FILES}
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_LINES}


def test_every_folder_with_modules_is_a_package() -> None:
    """Without __init__.py it runs from a checkout, and is missing where premblyd is installed."""
    folders = {module.parent for module in FILES}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
