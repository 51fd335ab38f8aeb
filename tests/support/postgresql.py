"""A PostgreSQL server of the tests' own: on a socket in a temporary folder, run by a plain user."""

import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from premblyd.feature import installed
from premblyd.store.connections import backend
from premblyd.store.schema import KEY_BYTES
from tests.support.needs import UnavailableError
from tests.support.users import NOBODY
from tests.support.waiting import FOREVER_S

if "postgresql" in installed():  # the core's tests do without
    from premblyd.features.postgresql import opening
    from premblyd.features.postgresql.settings import Server

SUPERUSER = "tests"
# Nobody cuts the power of a test. What survives that is tested with a server of its own.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "60s",
    "log_min_messages": "warning",
}


@functools.cache
def binaries() -> Path:
    """Return the folder of PostgreSQL's own programs. Raise UnavailableError without one."""
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    places = sorted(installed, key=lambda place: int(place.parts[-2]))
    if (on_path := shutil.which("initdb")) is not None:
        places.append(Path(on_path).resolve().parent)
    for place in reversed(places):
        if (place / "initdb").exists():
            return place
    raise UnavailableError("needs PostgreSQL (apt-get install postgresql)")


def run(*command: str | Path, **options: Any) -> None:
    """Run one of PostgreSQL's programs, which refuse to be run by root."""
    whole = [*as_plain_user(), *map(str, command)]
    subprocess.run(whole, check=True, stdout=subprocess.DEVNULL, cwd="/", **options)


def as_plain_user() -> list[str]:
    """Return what stands before a command that root runs as nobody."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


class Cluster:
    """A PostgreSQL server in `folder`, which a plain user owns."""

    def __init__(self, folder: Path, port: int = 5432) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = port

    def create(self, **settings: str) -> None:
        """Make its files; `settings` stand beside SETTINGS."""
        self._own_folder()
        options = "--auth=trust -E UTF8 --locale=C --no-sync --no-instructions"
        run(binaries() / "initdb", "-D", self.data, "-U", SUPERUSER, *options.split())
        self.configure(**SETTINGS, **settings)

    def configure(self, **settings: str) -> None:
        """Add settings, which count from the next start or reload on."""
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            for name, value in settings.items():
                file.write(f"{name} = '{value}'\n")

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = f"-k {self.folder} -p {self.port}"
        self._control("start", "-w", "-l", str(self.folder / "log"), "-o", options)

    def reload(self) -> None:
        """Have it read its settings again."""
        self._control("reload")

    def follow(self, primary: "Cluster") -> None:
        """Make its files anew, as a standby of `primary`; it starts stopped."""
        shutil.rmtree(self.data, ignore_errors=True)
        self._own_folder()
        source = f"-h {primary.folder} -p {primary.port} -U {SUPERUSER} -D {self.data}"
        options = "--write-recovery-conf --checkpoint=fast"
        run(binaries() / "pg_basebackup", *source.split(), *options.split())

    def promote(self) -> None:
        """Have a standby become a primary, and wait until it is."""
        self._control("promote", "-w")

    @property
    def pid(self) -> int:
        """The process that is the server; the others are its children."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """kill -9, all its processes at once."""
        server = psutil.Process(self.pid)
        processes = [server, *server.children(recursive=True)]
        memory = (self.data / "postmaster.pid").read_text().splitlines()[6].split()[-1]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes)
        # Nothing else would ever give it back.
        subprocess.run(["ipcrm", "-m", memory], check=False, capture_output=True)

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate` is as a crash, but orderly for the shared memory."""
        self._control("stop", "-m", mode, "-w")

    def url(self, database: str, user: str = SUPERUSER) -> str:
        """Return a database's URL."""
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    def connect(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        """Return a superuser's connection, each of whose statements is a transaction."""
        return psycopg.connect(self.url(database), autocommit=True)

    def _own_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)

    def _control(self, *arguments: str) -> None:
        run(binaries() / "pg_ctl", "-D", self.data, "-s", "-t", str(FOREVER_S), *arguments)


FOLDER = "PREMBLYD_TEST_POSTGRESQL"  # a variable: where the session's server is, or may be made
TEMPLATE = "premblyd_template"
DIGEST_KEY = b"of the tests on PostgreSQL".ljust(KEY_BYTES)  # see tests.support.database


def prepare_session() -> None:
    """Say where the processes of this session find their server, which the first makes that needs
    one."""
    folder = tempfile.mkdtemp(prefix="premblyd-tests-")
    os.chmod(folder, 0o755)
    os.environ[FOLDER] = folder


def end_session() -> None:
    """Stop the session's server, if there is one, and remove its files."""
    folder = Path(os.environ.pop(FOLDER))
    if (folder / "server").exists():
        with contextlib.suppress(subprocess.CalledProcessError):
            Cluster(folder / "server").stop("immediate")
    shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def of_session() -> tuple[Cluster, str]:
    """Return the session's server, and its database with the schema, to be copied. Raise
    UnavailableError where there is no PostgreSQL."""
    binaries()
    folder = Path(os.environ[FOLDER])
    cluster = Cluster(folder / "server")
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            cluster.create(**FAST)
            cluster.start()
            make_template(cluster)
            (folder / "ready").touch()
    return cluster, TEMPLATE


def make_template(cluster: Cluster) -> None:
    """Make the database with the schema, to be copied."""
    with cluster.connect() as connection:
        # Most servers sort as people do, not by bytes.
        has_icu = connection.info.server_version >= 150_000
        locale = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'" if has_icu else ""
        connection.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0 {locale}")
    backend(Server(cluster.url(TEMPLATE))).prepare()
    with cluster.connect(TEMPLATE) as connection:
        connection.execute("UPDATE record SET digest_key = %s", [DIGEST_KEY])


@contextlib.contextmanager
def cluster(**settings: str) -> Iterator[Cluster]:
    """A cluster of a test's own, which starts stopped."""
    folder = Path(tempfile.mkdtemp(prefix="premblyd-postgresql-"))
    folder.chmod(0o755)
    own = Cluster(folder)
    try:
        own.create(**settings)
        yield own
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            own.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def server() -> "Iterator[Server]":
    """A new database on a running server of its own, with PostgreSQL's own defaults: a commit is
    on the disk before it returns."""
    with cluster() as own:
        own.start()
        yield new_database(own)


def address(url: str) -> "Server":
    """Return the database that a configuration names so."""
    return Server(url)


def new_database(cluster: Cluster, template: str = "template1") -> "Server":
    """Make a database, as a copy of `template`; return where it is."""
    name = f"premblyd_{uuid.uuid4().hex[:12]}"
    with cluster.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    return Server(cluster.url(name))


def prepared_database(cluster: Cluster) -> "Server":
    """Make a database with the schema on a server of a test's own."""
    server = new_database(cluster)
    backend(server).prepare()
    return server


# Changes whenever somebody changes a table, a trigger, a function or the database's settings.
_SHAPE = """SELECT
    (SELECT sum(xmin::text::bigint) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
    (SELECT sum(xmin::text::bigint) FROM pg_trigger),
    (SELECT sum(xmin::text::bigint) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
    (SELECT sum(xmin::text::bigint) FROM pg_constraint),
    (SELECT count(*) FROM pg_attribute),
    (SELECT sum(xmin::text::bigint) FROM pg_db_role_setting
     WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))"""


class _Lent:
    """A database for one test after the other, which is made empty in between."""

    def __init__(self) -> None:
        cluster, template = of_session()
        self.server = new_database(cluster, template)
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            self._shape = connection.execute(_SHAPE).fetchone()
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname='public'")
            self._rows = {
                name: connection.execute(f"SELECT * FROM {name}").fetchall()
                for (name,) in tables.fetchall()
            }
            numbers = "SELECT sequencename, last_value FROM pg_sequences"
            self._numbers = connection.execute(numbers).fetchall()

    def empty(self) -> bool:
        """Give it its first rows and numbers again. Return whether that is all a test changed."""
        with psycopg.connect(self.server.url) as connection:
            if connection.execute(_SHAPE).fetchone() != self._shape:
                return False
            connection.execute("SET session_replication_role = replica; SET lock_timeout = '1s'")
            connection.execute("; ".join(f"DELETE FROM {name}" for name in self._rows))
            for name, rows in self._rows.items():
                for row in rows:
                    places = ", ".join(["%s"] * len(row))
                    connection.execute(f"INSERT INTO {name} VALUES ({places})", row)
            for name, number in self._numbers:
                values = [name, number or 1, number is not None]
                connection.execute("SELECT setval(%s, %s, %s)", values)
        return True


_LENT: list[_Lent] = []


@contextlib.contextmanager
def empty_database() -> "Iterator[Server]":
    """A prepared database, for a test that leaves none of its processes behind: mostly one that
    another test had. To empty it takes 10 ms, a new one 60."""
    lent = _LENT.pop() if _LENT else _Lent()
    yield lent.server
    with contextlib.suppress(psycopg.Error):
        if lent.empty():
            _LENT.append(lent)


def rows(server: "Server", text: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return what another connection sees of the database."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        return connection.execute(text.replace("?", "%s"), values or None).fetchall()


def by_hand(server: "Server", text: str, *values: Any) -> None:
    """Change the database as a superuser can, who keeps no foreign keys."""
    text = text.replace("?", "%s")
    with psycopg.connect(server.url, autocommit=True) as connection:
        try:
            connection.execute(text, values or None)
        except psycopg.errors.ForeignKeyViolation:
            connection.execute("SET session_replication_role = replica")  # no triggers either
            connection.execute(text, values or None)


def wait_for_locks(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Have new connections wait for a lock no longer than this, such as 200ms."""
    if "postgresql" in installed():
        monkeypatch.setitem(opening.SESSION, "lock_timeout", limit)
