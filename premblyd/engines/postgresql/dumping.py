"""A copy of the record on a server, by `pg_dump`: that alone knows all that a database of any
version has.

It connects as premblyd does. A password gets to it in a file that has no name: everybody on the
machine could read it in arguments, and all of this user's processes in the environment.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from typing import IO, BinaryIO

from psycopg.conninfo import make_conninfo

from premblyd.databases import Server
from premblyd.engines.besides import Copied
from premblyd.engines.postgresql import opening
from premblyd.errors import PremblydError, TryAgainError
from premblyd.model.keeptables import EventKey

_CHUNK_BYTES = 1 << 20
# The custom format is what pg_restore can put back in one transaction. Little is gained by packing
# harder, and a whole processor is lost.
_ARGUMENTS = ("--format=custom", "--compress=1", "--no-password", "--lock-wait-timeout=60s")
_KEYS = EventKey._meta.table_name
_MISSING = (
    "To copy a record on PostgreSQL needs `pg_dump`, of the server's version or newer: install"
    " postgresql-client. What backs up the whole server, such as pgBackRest, does as well"
    " (docs/several-hosts.md)."
)


class CannotDumpError(PremblydError):
    """`pg_dump` has failed, and nothing is kept of what it wrote. Its message says why."""


class CannotDumpNowError(TryAgainError, CannotDumpError):
    """The server can't be reached, or somebody changes the tables. Try again later."""


def write_copy(
    server: Server,
    out: BinaryIO,
    tell: Callable[[Copied], None],
    *,
    without_keys: bool = False,
) -> None:
    """Write a dump of the database; `without_keys`: but for the rows of events' keys."""
    program = shutil.which("pg_dump")
    if program is None:
        raise CannotDumpError(_MISSING)
    parameters = opening.parameters(server)
    password = parameters.pop("password", None)
    with tempfile.TemporaryFile() as said:
        passfile = -1 if password is None else _passfile(password)
        try:
            conninfo = make_conninfo("", **parameters)
            process = _started(program, conninfo, passfile, said, without_keys=without_keys)
        finally:
            if passfile >= 0:
                os.close(passfile)
        with process:
            try:
                _pass_on(process, out, tell)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said.seek(0)
            raise _failure(said.read().decode(errors="replace"))


def _passfile(password: str) -> int:
    """Return a file as ~/.pgpass is one, in memory."""
    escaped = re.sub(r"([\\:])", r"\\\1", password)
    descriptor = os.memfd_create("premblyd-passfile")
    os.fchmod(descriptor, 0o600)  # else libpq would not read it
    os.write(descriptor, f"*:*:*:*:{escaped}\n".encode())
    return descriptor


def _started(
    program: str, conninfo: str, passfile: int, said: IO[bytes], *, without_keys: bool
) -> "subprocess.Popen[bytes]":
    left_out = (f"--exclude-table-data={_KEYS}",) if without_keys else ()
    environ = os.environ | {"LC_ALL": "C.UTF-8"}
    if passfile >= 0:
        environ.pop("PGPASSWORD", None)  # which would win
        environ["PGPASSFILE"] = f"/proc/self/fd/{passfile}"
    return subprocess.Popen(
        [program, *_ARGUMENTS, *left_out, f"--dbname={conninfo}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=said,
        pass_fds=() if passfile < 0 else (passfile,),
        env=environ,
    )


def _pass_on(
    process: "subprocess.Popen[bytes]", out: BinaryIO, tell: Callable[[Copied], None]
) -> None:
    done = 0
    while process.stdout and (chunk := process.stdout.read(_CHUNK_BYTES)):
        out.write(chunk)
        done += len(chunk)
        tell(Copied(bytes=done, total_bytes=None))


def _failure(said: str) -> CannotDumpError:
    """Return an error with what `pg_dump` says, without the text of its queries."""
    lines = [line.removeprefix("pg_dump: ").removeprefix("error: ") for line in said.splitlines()]
    reason = next((line for line in lines if line), "it did not say why")
    if "server version mismatch" in said:
        return CannotDumpError(f"`pg_dump` is older than the server. {_MISSING}")
    may_pass = "connection" in said or "lock timeout" in said
    kind = CannotDumpNowError if may_pass else CannotDumpError
    return kind(f"The record could not be copied: pg_dump: {reason}")
