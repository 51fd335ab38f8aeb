"""The service behind a real nginx, over TCP and over a unix socket."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.systemd.machine import Machine
from tests.systemd.service import DATABASE, KEY, sql

pytestmark = pytest.mark.machine

NGINX = """
server {
    listen 192.0.2.7:8081;
    client_max_body_size %s;
    location /webhooks/ {
        proxy_pass http://%s;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
}
"""
OVER_UNIX = """
[Socket]
ListenStream=
ListenStream=/run/premblyd.sock
SocketGroup=www-data
SocketMode=0660
"""
# Holds the database's write lock for longer than the daemon waits for it.
HOLD = f"""
import sqlite3, time
connection = sqlite3.connect("{DATABASE}", isolation_level=None, timeout=20)
connection.execute("BEGIN IMMEDIATE")
time.sleep(12)
"""


@pytest.fixture
def nginx(service: Machine) -> Iterator[Any]:
    service.run("ip address replace 192.0.2.7/32 dev lo && ip address replace 192.0.2.9/32 dev lo")

    def begin(limit: str, upstream: str) -> None:
        service.run("cat >/etc/nginx/conf.d/premblyd.conf", stdin=NGINX % (limit, upstream))
        service.run("nginx -t && systemctl restart nginx")

    yield begin
    service.run("rm -rf /etc/nginx/conf.d/premblyd.conf /etc/systemd/system/premblyd.socket.d")
    service.run("systemctl stop nginx premblyd.service premblyd.socket; systemctl daemon-reload")


def post(machine: Machine, body: str, *options: str) -> str:
    """Post a file through nginx as another address; return the answer's head and body."""
    sign = f'openssl dgst -sha256 -hmac "$(cat {KEY})" -binary {body} | base64'
    return machine.output(
        f"curl -s -i -H Expect: --interface 192.0.2.9 --data-binary @{body} {' '.join(options)}"
        f' -H "x-prembly-signature: $({sign})" http://192.0.2.7:8081/webhooks/prembly'
    )


@pytest.mark.parametrize("upstream", ["127.0.0.1:8080", "unix:/run/premblyd.sock:"])
def test_behind_nginx_addresses_limits_and_refusals_come_through(
    service: Machine, nginx: Any, upstream: str
) -> None:
    if upstream.startswith("unix:"):
        service.run("mkdir -p /etc/systemd/system/premblyd.socket.d")
        service.run("cat >/etc/systemd/system/premblyd.socket.d/unix.conf", stdin=OVER_UNIX)
        service.run("systemctl daemon-reload && systemctl stop premblyd.service premblyd.socket")
        service.run("systemctl start premblyd.socket premblyd.service")
    nginx("16m", upstream)
    # A JSON text of exactly premblyd's limit, and one of a byte more.
    size = 16 << 20
    service.run(
        f"printf '\"%0{size - 2}d\"' 0 >/root/most; printf '\"%0{size - 1}d\"' 0 >/root/over"
    )
    assert post(service, "/root/most").startswith("HTTP/1.1 200")
    newest = "SELECT remote_ip, body_bytes FROM event ORDER BY id DESC LIMIT 1"
    assert sql(service, newest) == f"192.0.2.9|{size}"
    assert post(service, "/root/over").startswith("HTTP/1.1 413")
    nginx("32m", upstream)
    assert '{"error":"Body too large"}' in post(service, "/root/over")

    forged = post(service, "/root/most", "-H 'X-Forwarded-For: 198.51.100.1'")
    assert '"duplicate":' in forged
    assert sql(service, "SELECT DISTINCT remote_ip FROM event WHERE remote_ip LIKE '198%'") == ""

    hold = service.start("exec python3 -", environ={"PYTHONUNBUFFERED": "1"})
    assert hold.stdin
    hold.stdin.write(HOLD)
    hold.stdin.close()
    hold.stdin = None
    time.sleep(0.5)
    service.run("echo '{}' >/root/small")
    answer = post(service, "/root/small")
    assert answer.startswith("HTTP/1.1 503")
    assert "Retry-After: 5" in answer
    hold.communicate(timeout=30)
    assert post(service, "/root/small").startswith("HTTP/1.1 200")
