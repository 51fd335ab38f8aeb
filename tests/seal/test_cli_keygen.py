"""premblyd keygen, and the key that it makes in a configuration."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from premblyd.cli import main
from premblyd.config.load import load_config
from premblyd.errors import ConfigError
from premblyd.vault import DataKey
from tests.support.daemon import Premblyd
from tests.support.rows import for_each
from tests.support.sealing import KEY, OTHER_KEY, VAULT
from tests.support.store import store_at

CONFIG = """
database: sqlite:///premblyd.db
endpoints: [{name: prembly, path: /prembly, keys: {live: k}}]
"""


def keygen(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["keygen", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def configured(folder: Path, encryption: str, *, look_up_secrets: bool = True) -> Path:
    path = folder / "premblyd.yaml"
    path.write_text(f"{CONFIG}encryption: {encryption}\n")
    load_config(path, look_up_secrets=look_up_secrets)
    return path


def test_keygen_makes_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    said = keygen(str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    key = DataKey.read(file.read_text().removesuffix("\n"))
    assert key.id in said
    assert file.read_text().strip() not in said


def test_keygen_never_writes_over_a_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("mine")
    result = CliRunner().invoke(main, ["keygen", str(file)])
    assert (result.exit_code, file.read_text()) == (1, "mine")


def test_keygen_prints_a_key_without_a_file() -> None:
    assert DataKey.read(keygen().strip()) != DataKey.read(keygen().strip())
    told = json.loads(keygen("--json"))
    assert DataKey.read(told["key"]).id == told["data_key"]


def test_keygen_tells_in_json_which_key_it_made(tmp_path: Path) -> None:
    told = json.loads(keygen(str(tmp_path / "key"), "--json"))
    key = DataKey.read((tmp_path / "key").read_text().strip())
    assert told == {"data_key": key.id, "file": str(tmp_path / "key")}


def test_a_configuration_names_the_keys_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "new").write_text(f"{KEY}\n")
    (tmp_path / "old").write_text(OTHER_KEY)
    path = configured(tmp_path, "{key: {file: new}, old_keys: [{file: old}]}")
    vault = load_config(path).vault
    assert vault is not None
    assert vault.seals_with == DataKey.read(KEY).id
    assert set(vault.opens) == {DataKey.read(KEY).id, DataKey.read(OTHER_KEY).id}
    opens = load_config(configured(tmp_path, "{old_keys: [{file: old}]}")).vault
    assert opens is not None
    assert (opens.seals_with, opens.opens) == (None, (DataKey.read(OTHER_KEY).id,))
    assert "encryption old_keys, file:old" in load_config(path).secrets


@for_each(
    ("encryption", "words"),
    [
        ("{}", "should have a `key:`"),
        (f"{{key: '{KEY}'}}", "a file of its own"),
        ("{key: {file: none}}", "no secret file none"),
        ("{key: {file: wrong}}", "no data key"),
        ("{old_keys: [{file: wrong}]}", "no data key"),
        ("{keys: []}", "unknown key"),
        ("{old_keys: [{file: right}], identity: sealed}", "needs a `key:`"),
        ("{key: {file: right}, identity: half}", "'plain' or 'sealed'"),
    ],
)
def test_what_is_no_data_key_is_a_mistake(tmp_path: Path, encryption: str, words: str) -> None:
    (tmp_path / "wrong").write_text("hunter2")
    (tmp_path / "right").write_text(KEY)
    with pytest.raises(ConfigError, match=words) as refused:
        configured(tmp_path, encryption)
    assert "hunter2" not in str(refused.value)


def test_who_may_not_read_a_key_does_without(tmp_path: Path) -> None:
    path = configured(tmp_path, "{key: {file: none}}", look_up_secrets=False)
    vault = load_config(path, look_up_secrets=False).vault
    assert vault is not None
    assert vault.opens == ()


@for_each("module", ["cryptography", "cryptography.hazmat.primitives.ciphers.aead"])
def test_check_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    (tmp_path / "new").write_text(KEY)
    path = configured(tmp_path, "{key: {file: new}}")
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, module, None)
        result = CliRunner().invoke(main, ["--config", str(path), "check"])
    assert (result.exit_code, "install.sh --with seal" in result.output) == (78, True)


def test_status_does_without_what_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").write_text(KEY)
    daemon = Premblyd(tmp_path, encryption={"key": {"file": "new"}})
    with store_at(daemon.place) as store:
        store.add()
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    result = CliRunner().invoke(main, ["--config", str(daemon.config), "status"])
    assert ("library" in result.output, result.exit_code) == (False, 2)  # no daemon runs


def test_check_warns_of_a_data_key_that_others_can_read(tmp_path: Path) -> None:
    key = tmp_path / "credentials" / "new"
    key.parent.mkdir()
    key.write_text(KEY)
    path = configured(tmp_path, "{key: {file: new}}")
    for mode, is_told in ((0o600, False), (0o640, True), (0o604, True)):
        key.chmod(mode)
        result = CliRunner().invoke(main, ["--config", str(path), "check"])
        assert (f"chmod go-rwx {key}" in result.output) is is_told


def test_check_says_that_the_daemon_can_t_start_without_its_key(tmp_path: Path) -> None:
    (tmp_path / "other").write_text(OTHER_KEY)
    daemon = Premblyd(tmp_path, encryption={"key": {"file": "other"}})
    with store_at(daemon.place, VAULT) as store:
        store.add()
    result = CliRunner().invoke(main, ["--config", str(daemon.config), "check"])
    assert (result.exit_code, "the daemon can't start: What is stored" in result.output) == (
        78,
        True,
    )
    result = CliRunner().invoke(main, ["--config", str(daemon.config), "check", "--json"])
    assert (result.exit_code, json.loads(result.output)["ok"]) == (78, False)
    daemon.configure()
    result = CliRunner().invoke(main, ["--config", str(daemon.config), "check"])
    assert "`encryption: {key: …}` must name" in result.output
