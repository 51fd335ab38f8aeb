"""What is sealed is moved as it is, with its keys, and opened by the same data key."""

from pathlib import Path

import pytest

from premblyd.databases import Server
from premblyd.vault import DataKey, Vault
from premblyd.verifications import pseudonyms
from tests.support.commands import run
from tests.support.daemon import Premblyd
from tests.support.moving import move_record
from tests.support.queue import SUCCEEDED, claim, finish
from tests.support.sealing import KEY, OTHER_KEY, VAULT, everything, opened
from tests.support.store import store_at

pytestmark = pytest.mark.postgresql


def test_what_is_moved_is_opened_by_the_same_data_key(path: Path, server: Server) -> None:
    with store_at(path, VAULT) as store:
        store.add("crm", body=b"1")
        store.add("crm", body=b"2")
        [job, _] = claim(store, crm=2).jobs
        assert finish(store, job, SUCCEEDED)
        keys = store.rows("SELECT id, wrapped FROM event_key ORDER BY id")
        store.wait(store.queue.release_unstarted([], job.started_at_ms))
    move_record(path, server)
    with store_at(server, VAULT) as store:
        assert store.rows("SELECT id, wrapped FROM event_key ORDER BY id") == keys
        [again] = claim(store, job.started_at_ms + 1, crm=2).jobs
        assert again.event.body == b"2"
        assert opened(store, "attempt", "output", 1) == "done"
        assert b"hush" not in everything(store)


def test_nothing_is_moved_that_the_configuration_can_t_open(tmp_path: Path, server: Server) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "other").write_text(OTHER_KEY)
    daemon = Premblyd(tmp_path, encryption={"key": {"file": "other"}})
    with store_at(daemon.database, VAULT) as store:
        store.add("crm")
    done = run("--config", daemon.config, "move", server.url)
    assert (done.code, "Nothing was changed" in done.err) == (78, True)
    with store_at(server) as store:
        assert store.rows("SELECT count(*) FROM event") == [(0,)]
    daemon.configure(encryption={"key": {"file": "key"}})
    done = run("--config", daemon.config, "move", server.url)
    assert (done.code, "1 event," in done.out) == (0, True)


def test_sealed_names_are_moved_as_they_are(path: Path, server: Server) -> None:
    names = Vault(DataKey.read(KEY), seals_names=True)
    with store_at(path, names) as store:
        store.add("crm", reference="hush-reference", user_ref="hush-user")
        before = store.rows("SELECT reference, user_ref FROM event")
        finish(store, claim(store, crm=1).jobs[0], SUCCEEDED)
    move_record(path, server)
    with store_at(server, names) as store:
        assert store.rows("SELECT reference, user_ref FROM event") == before
        naming = store.wait(store.writer.call(pseudonyms.of))
        assert before == [(naming.reference("hush-reference"), naming.user("hush-user"))]
        store.add("crm", body=b"2", reference="hush-reference", user_ref="hush-user")
        assert store.rows("SELECT count(DISTINCT reference) FROM event") == [(1,)]
        assert claim(store, crm=1).jobs[0].event.verdict.reference == "hush-reference"
        assert b"hush" not in everything(store)
