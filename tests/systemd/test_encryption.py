"""The service on an encrypted record: its library, its key, and the page's commands."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from tests.systemd.machine import Machine
from tests.systemd.pages import as_root, inline
from tests.systemd.service import CONFIG, DATABASE, INSTALL, KEY, configure, send, sql

pytestmark = pytest.mark.machine

NAMED = "encryption: {key: {file: database.key}}"
DATABASE_KEY = "/etc/premblyd/database.key"
PAGES = Path(__file__).parents[2] / "docs"
INSTALLING = (PAGES / "install.md").read_text()
PAGE = INSTALLING.partition("### Restore on a second machine")[2].partition("##")[0]
SUCCEEDED = "SELECT count(*) AS n FROM delivery WHERE state = 'succeeded'"


@pytest.fixture
def emptied(service: Machine) -> Iterator[Machine]:
    """The service, whose record does not outlast the test: others configure no key for it."""
    yield service
    service.run("systemctl stop premblyd.socket premblyd.service")
    service.run("find /var/lib/premblyd /var/backups/premblyd -mindepth 1 -delete")
    service.run(f"rm -f {DATABASE_KEY} /etc/premblyd/credentials/database.key")


def run_hook(machine: Machine) -> None:
    """Send a webhook, and wait until its hook has run."""
    asking = f'runuser -u premblyd -- premblyd sql --csv "{SUCCEEDED}"'
    done = machine.output(asking)
    send(machine)
    wait_until(lambda: machine.output(asking) != done)


def ask(machine: Machine, query: str) -> str:
    return machine.output(f'runuser -u premblyd -- premblyd sql --csv "{query}"')


def test_a_record_is_encrypted_and_gets_another_key_by_the_page(
    emptied: Machine, fresh_machine: Machine
) -> None:
    service = emptied
    service.run(f"install -m 0600 /dev/stdin {KEY}", stdin="my-real-key\n")
    configure(service, 'name: note, response_codes: ["*"], shell: id -un', restart=True)
    run_hook(service)
    before = sql(service, "SELECT count(*) FROM event")
    service.run(f"cat >>{CONFIG}", stdin=f"{NAMED}\n")
    assert "Updated to" not in service.run(INSTALL, check=False).stdout  # there is no key
    service.run(f"sed -i /^encryption/d {CONFIG}")
    assert "Updated to" in service.run(f"{INSTALL} --with encryption").stdout

    init, stop, encrypt = as_root("sh", "premblyd init --encryption").splitlines()
    assert NAMED in service.run(init, check=False).stderr
    assert service.output(f"stat -c '%a %U' {DATABASE_KEY}") == "600 premblyd"
    service.run(f"cat >>{CONFIG}", stdin=f"{NAMED}\n")
    service.run(stop)
    assert "`premblyd record encrypt`" in service.run("premblyd check", check=False).stderr
    assert "NOT encrypted" in service.run(encrypt).stdout
    service.run(f"rm {DATABASE}.before-*; systemctl start premblyd")
    run_hook(service)
    count = "SELECT count(*) - 1 AS n FROM event"
    assert service.output(f'premblyd sql --csv "{count}"').endswith(f'"{before}"')
    assert service.run(f"grep -q '^SQLite format' {DATABASE}", check=False).returncode == 1

    service.run("umask 077; openssl rand -hex 32 >/root/next.key")
    service.run(stop)
    service.run(as_root("sh", "record encrypt --new-key"))
    service.run(f"cmp /root/next.key {DATABASE_KEY}; systemctl start premblyd")
    run_hook(service)
    assert service.output(f"stat -c '%a %U' {DATABASE_KEY}") == "600 premblyd"

    move_to(fresh_machine, service)

    # In credentials/ only root and the daemon have it.
    service.run(f"install -m 0600 {DATABASE_KEY} /etc/premblyd/credentials/; rm {DATABASE_KEY}")
    service.run("systemctl restart premblyd")
    send(service)
    assert service.run("runuser -u premblyd -- premblyd events", check=False).returncode
    refused = service.run("premblyd record encrypt --new-key /root/next.key", check=False)
    assert "Another premblyd uses" in refused.stderr
    assert "Updated to" in service.run(INSTALL).stdout  # it keeps the library
    send(service)


def move_to(second: Machine, first: Machine) -> None:
    """Put a copy back on a second machine by the page. Who was erased since is not in it."""
    first.run("systemctl start premblyd-backup")
    (reference,) = ask(first, "SELECT max(reference) AS r FROM event").splitlines()[1:]
    reference = reference.strip('"')
    first.run(f"premblyd person erase --reference {reference} --yes")
    first.run("tar -C / -cf /share/moved.tar etc/premblyd var/backups/premblyd")
    shutil.copy(first.share / "moved.tar", second.share)

    second.run(f"{INSTALL} --with encryption")
    second.run("mkdir /mnt/copies; tar -C / -xf /share/moved.tar")
    second.run("mv /var/backups/premblyd/* /mnt/copies; mv /etc/premblyd/database.key /root/KEY")
    second.run("chown -R premblyd: /mnt/copies")
    for part in ("sudo systemctl stop", "sudo install -o premblyd", "sudo premblyd record restore"):
        (typed,) = {each for each in inline(part) if each in PAGE}
        yes = " --yes" if "restore" in typed else ""
        second.run(typed.replace("sudo ", "").replace(" KEY ", " /root/KEY ") + yes)
    second.run("chown -R root:premblyd /etc/premblyd; chown premblyd: /etc/premblyd/database.key")
    second.run("systemctl start premblyd")
    count = "SELECT count(*) AS n FROM event"
    assert ask(second, count) == ask(first, count)
    assert reference not in ask(second, "SELECT reference FROM event")
    run_hook(second)
