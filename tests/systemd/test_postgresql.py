"""The service on PostgreSQL: its driver, a server on the same machine, and a password."""

from collections.abc import Iterator

import pytest

from tests.support.waiting import wait_until
from tests.systemd.machine import Machine
from tests.systemd.pages import as_root, block
from tests.systemd.service import CONFIG, INSTALL, KEY, send, use_drop_in

pytestmark = pytest.mark.machine

DATABASE_PASSWORD = "/etc/premblyd/credentials/database-password"
PASSWORD = "of-the-database-26"
BY_SOCKET = block("yaml", "host=/run/postgresql")
CA = "/etc/premblyd/database-ca.pem"
BY_PASSWORD = f"""
database:
  url: postgresql://premblyd@127.0.0.1/premblyd?sslmode=verify-ca&sslrootcert={CA}
  password: {{file: database-password}}
"""
ENDPOINTS = """
endpoints:
  - name: prembly
    path: /webhooks/prembly
    keys: {live: {file: prembly-live-key}}
actions: [{name: note, response_codes: ["*"], shell: id -un}]
"""
SUCCEEDED = "SELECT count(*) FROM delivery WHERE state = 'succeeded'"


@pytest.fixture
def server(service: Machine) -> Iterator[Machine]:
    """The service, and beside it the PostgreSQL server that Debian's package made."""
    service.run("systemctl start postgresql")
    yield service
    service.run("systemctl stop premblyd.socket premblyd postgresql")


def in_the_record(machine: Machine, query: str) -> str:
    return machine.output(f'runuser -u postgres -- psql --no-psqlrc -Atc "{query}" premblyd')


def run_hook(machine: Machine) -> None:
    """Send a webhook, and wait until its hook has run."""
    done = int(in_the_record(machine, SUCCEEDED))
    send(machine)
    wait_until(lambda: int(in_the_record(machine, SUCCEEDED)) != done)


def test_the_service_works_on_postgresql(server: Machine) -> None:
    server.run(as_root("sh", "createuser premblyd"))
    server.run(f"install -m 0600 /dev/stdin {KEY}", stdin="my-real-key\n")
    server.run(f"cat >{CONFIG}", stdin=BY_SOCKET + ENDPOINTS)

    # Without its driver an update would be refused: install.sh asks this first.
    checked = server.run("premblyd check", check=False)
    assert checked.returncode == 78
    assert "install.sh --with postgresql" in checked.stderr

    assert "Updated to" in server.run(f"{INSTALL} --with postgresql").stdout
    run_hook(server)
    server.run("systemctl restart premblyd")
    run_hook(server)
    checked = server.run("premblyd check")
    assert checked.stderr == ""
    assert "database premblyd, role premblyd." in checked.stdout
    assert "A daemon runs on it: pid " in checked.stdout
    assert "sample-api" in server.output("runuser -u premblyd -- premblyd events")

    # An update keeps the driver.
    assert "Updated to" in server.run(INSTALL).stdout
    run_hook(server)

    # The server comes later than the service: without the drop-in, at boot.
    server.run("systemctl stop premblyd.socket premblyd postgresql")
    assert server.run("systemctl start premblyd", check=False).returncode != 0
    server.wait("journalctl -u premblyd -n 30 -o cat | grep -q status=75")
    server.run("systemctl start postgresql")
    server.wait("curl -sf http://127.0.0.1:8080/healthz")
    run_hook(server)

    # With it, the start of one starts the other.
    use_drop_in(server, "override", block("text", "After=postgresql.service"))
    server.run("systemctl stop premblyd.socket premblyd postgresql")
    server.run("systemctl start premblyd")
    assert server.property("NRestarts") == "0"

    # A password, over TLS: a file of root's like the other secrets.
    server.run(
        "runuser -u postgres -- psql --no-psqlrc premblyd",
        stdin=f"ALTER ROLE premblyd PASSWORD '{PASSWORD}'",
    )
    server.run(f"install -m 0600 /dev/stdin {DATABASE_PASSWORD}", stdin=f"{PASSWORD}\n")
    server.run(f"install -m 0644 /etc/ssl/certs/ssl-cert-snakeoil.pem {CA}")
    server.run(f"cat >{CONFIG}", stdin=BY_PASSWORD + ENDPOINTS)
    server.run("systemctl restart premblyd")
    run_hook(server)
    checked = server.run("premblyd check")
    assert checked.stderr == ""
    assert "A daemon runs on it: pid " in checked.stdout
    assert "sample-api" in server.output("premblyd events")

    server.run(f"echo not-it | install -m 0600 /dev/stdin {DATABASE_PASSWORD}")
    checked = server.run("premblyd check", check=False)
    assert "password authentication failed" in checked.stderr
    assert "not-it" not in checked.stdout + checked.stderr
