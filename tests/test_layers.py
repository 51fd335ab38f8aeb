"""The arrows between the rooms: imports point down only. Read from the source, not by importing."""

import ast
import functools
from pathlib import Path

import pytest

import premblyd

ROOT = Path(premblyd.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 450

# Each room, and the rooms that it may import. Itself is understood.
GROUND = {
    "clock",
    "databases",
    "errors",
    "importing",
    "jsontext",
    "passwords",
    "procfs",
    "standardwebhooks",
    "systemd",
    "times",
    "version",
}
PURE = {"expressions", "interpreter", "prembly"}
LOW = GROUND | PURE | {"privacy", "logs", "occurrences", "telemetry", "config"}
ROOMS = {
    **{leaf: {"errors"} - {leaf} for leaf in GROUND},
    "httpclient": {"version"},
    "privacy": {"jsontext"},
    "logs": {"privacy", "importing", "jsontext", "times"},
    "occurrences": {"logs"},
    "telemetry": {"logs", "occurrences"},
    "expressions": {"errors", "interpreter"},
    "interpreter": {"errors", "jsontext"},
    "prembly": {"errors", "expressions", "jsontext", "privacy"},  # pure: no configuration
    "config": GROUND | PURE,  # checks expressions against prembly's names
    "store": {
        "clock",
        "databases",
        "errors",
        "logs",
        "occurrences",
        "prembly",
        "privacy",
        "telemetry",
        "times",
    },
    "routing": LOW,
    "rereading": LOW | {"store", "routing"},
    "record": LOW | {"store", "routing", "rereading"},
    "hooks": LOW | {"store", "httpclient"},
    "receiver": LOW | {"store", "routing"},
    "inquiry": LOW | {"store", "httpclient", "routing"},
    "explaining": LOW | {"store", "routing", "hooks"},
    # Knows senders as the receiver does.
    "console": LOW
    | {"store", "routing", "record", "explaining", "receiver", "listening", "metrics"},
    "presence": LOW | {"listening"},
    "lint": LOW | {"routing", "hooks"},
    "listening": LOW,
    "loops": LOW,
    "heartbeat": LOW | {"store"},
    "hosts": LOW | {"store", "heartbeat"},
    "metrics": LOW | {"store", "record"},
    "alerts": LOW | {"store", "record", "hooks"},
    "daemon": LOW
    | {"heartbeat", "hosts", "inquiry", "metrics", "console", "alerts"}
    | {"store", "routing", "rereading", "hooks", "receiver", "listening", "loops", "presence"},
    "signals": LOW,
    "process": LOW | {"hooks", "daemon", "signals"},
    "cli": LOW
    | {
        "store",
        "routing",
        "record",
        "hooks",
        "daemon",
        "process",
        "explaining",
        "presence",
        "alerts",
        "lint",
        "inquiry",
        "httpclient",
    },
    "__main__": {"cli"},
}
# Libraries that stay in their rooms; a path names a part of a room.
LIBRARIES = {
    "peewee": {"store", "record"},
    "playhouse": {"store"},
    "sqlite3": {"store/sqlite"},
    "psycopg": {"store/postgresql"},
    "tornado": {"receiver", "console", "listening", "httpclient.py"},
    "pycurl": {"httpclient.py"},
    "prometheus_client": {"metrics/families.py"},
    "click": {"cli"},
    "rich": {"cli"},
    "structlog": {"logs"},
    "pydantic": {"config"},
    "yaml": {"config/yamltext.py"},
    "jmespath": {"expressions", "interpreter"},
}


def room(module: Path) -> str:
    """Return the room of a file: `store` for store/queue.py, `config` for config.py."""
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


@functools.cache
def imports(module: Path) -> list[str]:
    """Return the full names of what a file imports, also inside functions and for types alone."""
    names: list[str] = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names += [f"{node.module}.{name.name}" for name in node.names]
    return names


def dotted_name(module: Path) -> str:
    """Return the name by which a file is imported: premblyd.store.queue, premblyd.store."""
    parts = module.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def module_of_import(name: str) -> str:
    """Return the module that an import reaches: `name` itself, or what it is an attribute of."""
    is_module = (ROOT.parent / name.replace(".", "/")).with_suffix(".py").is_file()
    is_package = (ROOT.parent / name.replace(".", "/")).is_dir()
    return name if is_module or is_package else name.rpartition(".")[0]


def room_of_import(name: str) -> str | None:
    """Return the room that an import of premblyd reaches; None for other packages."""
    package, _, rest = name.partition(".")
    if package != "premblyd":
        return None
    return "version" if rest == "__version__" else rest.partition(".")[0]


@pytest.mark.parametrize("module", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_only(module: Path) -> None:
    own = room(module)
    if own == "__init__":
        assert imports(module) == [], "the package itself imports nothing"
        return
    reached = {room_of_import(name) for name in imports(module)} - {None, own}
    assert reached <= ROOMS[own], f"{own} may not import {reached - ROOMS[own]}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also within a room, and also for types alone: what needs each other is one thing."""
    modules = {dotted_name(module): module for module in FILES}
    left = {
        name: {reached for reached in map(module_of_import, imports(module)) if reached in modules}
        - {name}
        for name, module in modules.items()
    }
    while lowest := {name for name, reached in left.items() if not reached & left.keys()}:
        left = {name: reached for name, reached in left.items() if name not in lowest}
    assert not left, "in a circle, or above one"


def test_the_table_has_every_room_and_no_circle() -> None:
    assert {room(module) for module in FILES} - {"__init__"} == ROOMS.keys() - {"version"}
    below: set[str] = set()
    left = dict(ROOMS)
    while lowest := {name for name, reached in left.items() if reached <= below}:
        below |= lowest
        left = {name: reached for name, reached in left.items() if name not in lowest}
    assert not left, f"in a circle: {left}"


@pytest.mark.parametrize(("library", "rooms"), LIBRARIES.items())
def test_a_library_stays_in_its_rooms(library: str, rooms: set[str]) -> None:
    users = {
        module
        for module in FILES
        if any(name.partition(".")[0] == library for name in imports(module))
    }
    assert users, f"nothing uses {library}"
    strays = {
        str(module.relative_to(ROOT))
        for module in users
        if room(module) not in rooms and not any(is_in(part, module) for part in rooms)
    }
    assert not strays


def is_in(part: str, module: Path) -> bool:
    own = module.relative_to(ROOT)
    return own == Path(part) or Path(part) in own.parents


def test_what_the_store_promises_names_no_engine() -> None:
    contract = [module for module in FILES if room(module) == "store"]
    contract = [
        module
        for module in contract
        if not is_in("store/sqlite", module) and not is_in("store/postgresql", module)
    ]
    users = {module.relative_to(ROOT).as_posix() for module in contract if names_engine(module)}
    assert users == {"store/connections.py"}


def test_few_modules_name_an_engine() -> None:
    """`connections` chooses one for all; what copies and restores is about SQLite's files."""
    others = [module for module in FILES if room(module) != "store" and names_engine(module)]
    users = {module.relative_to(ROOT).as_posix() for module in others}
    users = {user for user in users if not user.startswith("store/")}
    assert users == {"cli/restore.py", "cli/upgrading.py"}


ENGINES = ("premblyd.store.sqlite", "premblyd.store.postgresql")


def names_engine(module: Path) -> bool:
    return any(name.startswith(ENGINES) for name in imports(module))


def test_no_module_is_too_long_to_read() -> None:
    lengths = {module.name: len(module.read_text().splitlines()) for module in FILES}
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_LINES}


def test_every_folder_with_modules_is_a_package() -> None:
    """Without __init__.py it runs from a checkout, and is missing where premblyd is installed."""
    folders = {module.parent for module in FILES}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
