"""The service behind a real nginx, over TCP and over a unix socket."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.systemd.machine import Machine
from tests.systemd.pages import CHANGE_ADDRESS, NGINX, UNIX_SOCKET, as_root, block, inline
from tests.systemd.service import CONFIG, DATABASE, KEY, sql, use_drop_in

pytestmark = pytest.mark.machine

CERTIFICATE = (
    "mkdir -p /etc/ssl/private && openssl req -x509 -newkey rsa:2048 -nodes -days 2"
    " -subj /CN=hooks.example.com -keyout /etc/ssl/private/hooks.example.com.key"
    " -out /etc/ssl/hooks.example.com.pem"
)
SECRET_PATH = "/webhooks/prembly/5c0a7d0f4b1e4f3c9f5f1d2b8e6a7c90"
# Holds the database's write lock for longer than the daemon waits for it.
HOLD = f"""
import os, sqlite3, time
connection = sqlite3.connect("{DATABASE}", isolation_level=None, timeout=20)
connection.execute("BEGIN IMMEDIATE")
open("/root/held", "w").close()
while os.path.exists("/root/held"):
    time.sleep(0.1)
"""


@pytest.fixture
def nginx(service: Machine) -> Iterator[Any]:
    service.run("ip address replace 192.0.2.7/32 dev lo && ip address replace 192.0.2.9/32 dev lo")
    service.run(CERTIFICATE)

    def begin(text: str) -> None:
        service.run("cat >/etc/nginx/conf.d/premblyd.conf", stdin=text)
        service.run("nginx -t && systemctl restart nginx")

    yield begin
    service.run("rm -rf /etc/nginx/conf.d/premblyd.conf /run/systemd/system/premblyd.socket.d")
    service.run("systemctl stop nginx premblyd.service premblyd.socket; systemctl daemon-reload")


def post(machine: Machine, body: str, *options: str, path: str = "/webhooks/prembly") -> str:
    """Post a file through nginx as another address; return the answer's head and body."""
    sign = f'openssl dgst -sha256 -hmac "$(cat {KEY})" -binary {body} | base64'
    return machine.output(
        f"curl -s -i -k --http1.1 --resolve hooks.example.com:443:192.0.2.7 -H Expect:"
        f" --interface 192.0.2.9 --data-binary @{body} {' '.join(options)}"
        f' -H "x-prembly-signature: $({sign})" https://hooks.example.com{path}'
    )


@pytest.mark.parametrize("upstream", ["tcp", "unix"])
def test_behind_nginx_addresses_limits_and_refusals_come_through(
    service: Machine, nginx: Any, upstream: str
) -> None:
    configuration = block(*NGINX)
    if upstream == "unix":
        (to_socket,) = inline("proxy_pass http://unix")
        assert "proxy_pass http://127.0.0.1:8080;" in configuration
        configuration = configuration.replace("proxy_pass http://127.0.0.1:8080;", to_socket)
        use_drop_in(service, "unix", block(*UNIX_SOCKET), "premblyd.socket")
        service.run(f"echo 'listen: unix:/run/premblyd.sock' >>{CONFIG}")
        service.run(as_root(*CHANGE_ADDRESS))
        assert "200 " in service.output("premblyd send")
    nginx(configuration)
    # A JSON text of exactly premblyd's limit, and one of a byte more.
    size = 16 << 20
    service.run(
        f"printf '\"%0{size - 2}d\"' 0 >/root/most; printf '\"%0{size - 1}d\"' 0 >/root/over"
    )
    assert post(service, "/root/most").startswith("HTTP/1.1 200")
    newest = "SELECT remote_ip, body_bytes FROM event ORDER BY id DESC LIMIT 1"
    assert sql(service, newest) == f"192.0.2.9|{size}"
    assert post(service, "/root/over").startswith("HTTP/1.1 413")
    nginx(configuration.replace("client_max_body_size 16m", "client_max_body_size 32m"))
    assert '{"error":"Body too large"}' in post(service, "/root/over")

    assert '"duplicate":' in post(service, "/root/most", "-H 'X-Forwarded-For: 198.51.100.1'")
    assert sql(service, "SELECT DISTINCT remote_ip FROM event WHERE remote_ip LIKE '198%'") == ""

    service.run("rm -f /root/held")
    hold = service.start("exec python3 -", environ={"PYTHONUNBUFFERED": "1"})
    assert hold.stdin
    hold.stdin.write(HOLD)
    hold.stdin.close()
    hold.stdin = None
    service.run("echo '{}' >/root/small")
    service.wait("test -e /root/held")
    answer = post(service, "/root/small")
    assert answer.startswith("HTTP/1.1 503")
    assert "Retry-After: 5" in answer
    service.run("rm /root/held")
    hold.communicate()
    assert post(service, "/root/small").startswith("HTTP/1.1 200")


def test_no_log_of_nginx_holds_the_secret_path(service: Machine, nginx: Any) -> None:
    service.run("rm -rf /var/log/nginx/*")
    nginx(block(*NGINX))
    service.run("echo '{}' >/root/small; head -c 20000000 /dev/zero >/root/large")
    assert post(service, "/root/large", path=SECRET_PATH).startswith("HTTP/1.1 413")
    service.run("systemctl stop premblyd.socket premblyd.service")
    assert post(service, "/root/small", path=SECRET_PATH).startswith("HTTP/1.1 502")
    service.run("nginx -s reopen")
    assert service.run(f"grep -r {SECRET_PATH[-20:]} /var/log/nginx", check=False).stdout == ""
    assert service.output("journalctl -u nginx --no-pager | grep -c 5c0a7d0f || true") == "0"
