"""docs/several-hosts.md is true: its roles, its configuration and its proxy work as they stand."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from premblyd.features.postgresql.settings import Server
from tests.support import postgresql
from tests.support.commands import run
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.hosts import by_cable, hosts
from tests.support.needs import needs_machine
from tests.support.pages import BLOCKS
from tests.support.ports import free_port
from tests.support.requests import request
from tests.support.waiting import wait_until
from tests.support.webhooks import PATH, signed

pytestmark = pytest.mark.postgresql

PAGE = "docs/several-hosts.md"
STATES = "SELECT state, count(*) FROM delivery GROUP BY state"
OWNERS = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
ACTIONS = [shell("crm", "exit 0")]
# What only the owner may do.
OWNERS_ALONE = (
    "TRUNCATE event",
    "DROP TABLE event",
    "ALTER TABLE event ADD x text",
    "CREATE TABLE x ()",
)
WRITES = (
    "DELETE FROM event",
    "UPDATE event SET body = ''",
    "INSERT INTO pause (action, since_ms) VALUES ('x', 9)",
)


def block(beginning: str) -> str:
    """Return the page's block that begins so."""
    (found,) = (
        each.text for each in BLOCKS if each.page == PAGE and each.text.startswith(beginning)
    )
    return found


class Roles:
    """The page's database and roles on the session's server, under names of this test's own."""

    def __init__(self) -> None:
        with needs_machine():
            self._cluster, _ = postgresql.of_session()
        self._name = f"page_{uuid.uuid4().hex[:8]}"
        self.run("CREATE ROLE premblyd LOGIN", "postgres")
        self.run("REVOKE ALL ON DATABASE", self._name)

    def run(self, beginning: str, database: str = "") -> None:
        """Run the page's block that begins so."""
        self.do(block(beginning), database)

    def do(self, text: str, database: str = "") -> None:
        """Run statements as a superuser."""
        with self._cluster.connect(database or self._name) as connection:
            for statement in self.named(text).split(";\n"):
                if statement.strip():
                    connection.execute(statement.encode())

    def named(self, text: str) -> str:
        return re.sub(r"\bpremblyd", self._name, text)

    def server(self, role: str) -> Server:
        return Server(self._cluster.url(self._name, self.named(role)))


@pytest.fixture(name="roles")
def make_roles() -> Roles:
    return Roles()


def lacks(server: Server, *statements: str) -> bool:
    """Return whether a role has the right to none of these."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        for statement in statements:
            try:
                connection.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                continue
            return False
    return True


def test_each_role_of_the_page_can_do_its_work_and_no_more(tmp_path: Path, roles: Roles) -> None:
    own, auditor = roles.server("premblyd"), roles.server("premblyd_auditor")
    with Premblyd(tmp_path, place=own, actions=ACTIONS) as daemon:
        checked = run("check", "--config", daemon.config)
        assert (checked.code, "the role" in checked.err) == (0, False)
        assert "It has no tables yet" in checked.out
        daemon.start()
        assert daemon.send(b'{"reference": "r-1"}').status == 200
        daemon.wait_for_rows([("succeeded", 1)], STATES)
        assert postgresql.rows(own, OWNERS) == [(roles.named("premblyd"),)]
        listed = run("events", "--database", auditor.url)
        assert (listed.code, listed.err) == (0, "")
        assert "r-1" in listed.out
        assert lacks(auditor, *OWNERS_ALONE, *WRITES)
        roles.do("CREATE ROLE premblyd_stranger LOGIN;\n")
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(roles.server("premblyd_stranger").url)


@contextlib.contextmanager
def proxy(folder: Path, daemons: list[Premblyd]) -> Iterator[str]:
    """Run nginx with the page's block over two daemons; yield its address."""
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        pytest.skip("needs nginx (apt-get install nginx-light)")
    port = free_port()
    text = block("upstream premblyd {")
    for address, daemon in zip(("10.0.0.11:8080", "10.0.0.12:8080"), daemons, strict=True):
        assert address in text
        text = text.replace(address, daemon.address)
    text = re.sub(r"\n +ssl_.*", "", text).replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"{user}pid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\nevents {{}}\n"
        f"http {{\n{places}{text}\n}}\n"
    )
    command = [nginx, "-c", str(config), "-p", str(folder), "-g", "daemon off;"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: answers(f"127.0.0.1:{port}") or process.poll() is not None)
            assert process.poll() is None, (folder / "nginx.log").read_text()
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def answers(address: str) -> bool:
    with contextlib.suppress(OSError):
        return request(address, "GET", "/elsewhere", b"", {}).status == 404
    return False


@pytest.mark.parametrize("silent", ["host", "database"])
def test_behind_the_pages_proxy_a_webhook_is_answered_in_time_when_all_is_silent(
    tmp_path: Path, silent: str
) -> None:
    """It is asked of the other host, and stored once. Prembly waits for 10 s."""
    within = block("answer_within:").partition(": ")[2].strip()
    with contextlib.ExitStack() as opened:
        with needs_machine():
            settings: dict[str, Any] = {"actions": ACTIONS, "answer_within": within}
            cable, server, far = opened.enter_context(by_cable(tmp_path, **settings))
        (near,) = opened.enter_context(hosts(tmp_path, "b", server=server, **settings))
        address = opened.enter_context(proxy(tmp_path, [far, near]))
        if silent == "host":
            far.process.send_signal(signal.SIGSTOP)
            opened.callback(far.process.send_signal, signal.SIGCONT)
        else:
            cable.cut()
        for number in range(2):  # one of them comes to the silent host first
            body = b'{"reference": "r-%d"}' % number
            assert request(address, "POST", PATH, body, signed(body)).status == 200
        near.wait_for_rows([("succeeded", 2)], STATES)
