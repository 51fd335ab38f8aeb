"""The stand-in for Prembly's API, run in a machine."""

import contextlib
from collections.abc import Iterator

from tests.support.waiting import wait_until
from tests.systemd.machine import Machine

API_KEY = "/etc/premblyd/credentials/prembly-api-key"
_SCRIPT = """
import os, signal, time
from tests.support.prembly_api import Verification, prembly_api
with prembly_api() as api:
{knows}
    with open("/root/{name}.new", "w") as file:
        file.write(f"{{api.url}} {{api.key}}")
    os.rename("/root/{name}.new", "/root/{name}")
    signal.pause()
"""


@contextlib.contextmanager
def stand_in(machine: Machine, name: str, knows: str) -> Iterator[str]:
    """Run a stand-in in the machine that `knows`, as lines of Python say, and put its key where
    the service's keys are. Yield what the configuration says below `prembly`."""
    script = _SCRIPT.format(name=name, knows=knows)
    python = "exec /opt/premblyd/current/bin/python"  # the stand-in needs premblyd's libraries
    command = f'cd /share/source && echo $$ >/root/{name}.pid && {python} -c "$STAND_IN"'
    process = machine.start(command, environ={"STAND_IN": script})
    try:
        wait_until(lambda: process.poll() is not None or _is_there(machine, name))
        assert process.poll() is None, process.communicate()
        url, key = machine.output(f"cat /root/{name}").split()
        machine.run(f"install -m 0600 /dev/stdin {API_KEY}", stdin=f"{key}\n")
        yield f'{{url: "{url}", api_key: {{file: prembly-api-key}}, rate: 100}}'
    finally:
        machine.run(f"kill $(cat /root/{name}.pid)", check=False)
        print(*process.communicate())


def _is_there(machine: Machine, name: str) -> bool:
    return machine.run(f"test -e /root/{name}", check=False).returncode == 0
