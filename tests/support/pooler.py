"""PgBouncer before a test's PostgreSQL server."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from premblyd.features.postgresql.settings import Server
from tests.support.needs import UnavailableError
from tests.support.postgresql import SUPERUSER, Cluster, as_plain_user
from tests.support.users import NOBODY
from tests.support.waiting import wait_until

PORT = 6432  # of a socket in a folder of its own
SETTINGS = """
[databases]
{name} = host={cluster.folder} port={cluster.port} user={user} dbname={name}
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = {port}
auth_type = any
pool_mode = {mode}
"""


@contextlib.contextmanager
def pooler(cluster: Cluster, server: Server, mode: str) -> Iterator[Server]:
    """Run a pooler; return the database as it is behind it. Raise UnavailableError without one."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise UnavailableError("needs PgBouncer (apt-get install pgbouncer)")
    folder = Path(tempfile.mkdtemp(prefix="premblyd-pooler-"))
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    folder.chmod(0o755)
    name = server.url.partition("@/")[2].partition("?")[0]
    settings = folder / "pooler.ini"
    values = {"user": SUPERUSER, "folder": folder, "port": PORT, "mode": mode}
    settings.write_text(SETTINGS.format(name=name, cluster=cluster, **values))
    pooled = Server(f"postgresql://{SUPERUSER}@/{name}?host={folder}&port={PORT}")
    command, nowhere = [*as_plain_user(), program, str(settings)], subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
    try:
        wait_until(lambda: _answers(pooled))
        yield pooled
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(server: Server) -> bool:
    try:
        psycopg.connect(server.url).close()
    except psycopg.OperationalError:
        return False
    return True
