"""CONTRIBUTING's example of a feature, built from the page itself."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.removal import PACKAGE, serving, without
from tests.support.webhooks import KEY, PATH

pytestmark = pytest.mark.large
PAGE = PACKAGE.parent / "CONTRIBUTING.md"
EXAMPLE = re.compile(r"```python\n# (premblyd/features/\S+)\n(.*?)```", re.DOTALL)
LINE = re.compile(r"`(\"notes\": \(\),)`")


def test_a_feature_is_a_folder_and_a_line(tmp_path: Path) -> None:
    text, copy = PAGE.read_text(), without((), tmp_path)
    for name, code in EXAMPLE.findall(text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    [line] = LINE.findall(text)
    features = copy / "features/__init__.py"
    features.write_text(features.read_text().replace("\n}", f"\n    {line}\n}}"))
    config = tmp_path / "premblyd.yaml"
    endpoint = {"name": "prembly", "path": PATH, "keys": {"live": KEY}}
    settings = {"listen": "127.0.0.1:0", "database": "sqlite:///premblyd.db"}
    config.write_text(json.dumps(settings | {"endpoints": [endpoint]}))

    def typed(*words: str) -> str:
        command = [sys.executable, "-m", "premblyd", "--config", str(config), *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert not done.stderr
        return done.stdout

    with serving(tmp_path, config):
        assert "  note    " in typed("--help")
        typed("note", "The CRM is slow")
        assert "The CRM is slow" in typed("status").splitlines()
        assert json.loads(typed("status", "--json"))["notes"] == ["The CRM is slow"]
    assert "The CRM is slow" in typed("sql", "SELECT text FROM note")
