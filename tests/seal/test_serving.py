"""A daemon that seals. It is a process, as its exit status and its files are what is looked at."""

import hashlib
from pathlib import Path

import pyrage
import pytest

from premblyd.backup.keys import INDEX
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.sealing import KEY, OTHER_KEY
from tests.support.waiting import wait_until

BODY = b'{"response_code":"00","reference":"ref-1","detail":"hush-detail","face":"hush-body"}'
RECIPIENT = str(pyrage.x25519.Identity.generate().to_public())
AT_ONCE = "from premblyd.backup import upkeep; upkeep.FIRST_S = 0"  # copy keys
DONE = "SELECT state FROM delivery"


def digests(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.glob("premblyd.db*"))
    }


@pytest.mark.sqlite
def test_a_daemon_seals_and_does_not_start_without_its_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "other").write_text(OTHER_KEY)
    action = shell("keep", f"cat > {tmp_path}/got; echo hush-output")
    with Premblyd(tmp_path, actions=[action], encryption={"key": {"file": "key"}}) as daemon:
        daemon.start().send(BODY, token="hush-token")
        daemon.wait_for_rows([("succeeded",)], DONE)
        assert (tmp_path / "got").read_bytes() == BODY
        files = [file.read_bytes() for file in tmp_path.glob("premblyd.db*")]
        assert len(files) >= 2, "the database and its log"
        assert not any(b"hush" in content for content in files)
        assert KEY not in daemon.log_text()
        assert daemon.stop() == 0
        before = digests(tmp_path)
        for encryption in (None, {"key": {"file": "other"}}):
            daemon.configure(actions=[action], **({"encryption": encryption} if encryption else {}))
            code, told = daemon.fail_to_start()
            assert (code, "Nothing was changed" in told) == (78, True)
        assert digests(tmp_path) == before
        both = {"key": {"file": "other"}, "old_keys": [{"file": "key"}]}
        (tmp_path / "keys").mkdir(mode=0o700)
        backup = {"recipients": [RECIPIENT], "keys": f"{tmp_path}/keys"}
        daemon.configure(actions=[action], encryption=both, backup=backup)
        daemon.start(before=AT_ONCE).send(BODY + b" ")
        daemon.wait_for_rows([("succeeded",), ("succeeded",)], DONE)
        assert len(daemon.rows("SELECT DISTINCT data_key FROM event_key")) == 2
        wait_until((tmp_path / "keys" / INDEX).exists)
