"""A feature is a folder and a line: CONTRIBUTING's example, built from the page itself, and one
that adds something at each place."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.removal import PACKAGE, serving, without
from tests.support.console import Browser
from tests.support.requests import request
from tests.support.waiting import wait_until
from tests.support.webhooks import BODY, KEY, PATH, signed

pytestmark = pytest.mark.large
PAGE = PACKAGE.parent / "CONTRIBUTING.md"
PLACES = Path(__file__).parent / "places.md"
EXAMPLE = re.compile(r"```python\n# (premblyd/features/\S+)\n(.*?)```", re.DOTALL)
EXPIRE = """
from pathlib import Path
from premblyd.features.keeping.removing import end_what_expired
from premblyd.store.connections import connect_operator
database = connect_operator(Path("premblyd.db"))
database.transact(lambda transaction: end_what_expired(transaction, database.now_ms()))
"""
LINE = re.compile(r"`(\"\w+\": \(\),)`")


def built(page: Path, folder: Path, **more: Any) -> Path:
    """Add a page's feature to a copy of premblyd in the folder; return a configuration there."""
    text, copy = page.read_text(), without((), folder)
    for name, code in EXAMPLE.findall(text):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    [line] = LINE.findall(text)
    features = copy / "features/__init__.py"
    features.write_text(features.read_text().replace("\n}", f"\n    {line}\n}}"))
    config = folder / "premblyd.yaml"
    endpoint = {"name": "prembly", "path": PATH, "keys": {"live": KEY}}
    settings = {"listen": "127.0.0.1:0", "database": "sqlite:///premblyd.db"}
    config.write_text(json.dumps(settings | {"endpoints": [endpoint]} | more))
    return config


def typist(config: Path) -> Callable[..., str]:
    """Return what types a command of that premblyd, and returns what it prints."""

    def typed(*words: str) -> str:
        command = [sys.executable, "-m", "premblyd", "--config", str(config), *words]
        done = subprocess.run(command, cwd=config.parent, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr  # 1: something needs attention
        return done.stdout

    return typed


def test_what_is_added_at_each_place_is_in_the_folder(tmp_path: Path) -> None:
    """A kind of hook, a gate, a table whose rows expire, a trouble, a metric, a filter, a page, and
    a command."""
    actions = [
        {"name": name, "response_codes": ["*"], "append": f"{tmp_path}/appended"}
        for name in ("told", "judged")
    ]
    console = {"listen": "127.0.0.1:0", "metrics": "public"}
    config = built(PLACES, tmp_path, actions=actions, console=console)
    typed = typist(config)
    ends = "SELECT group_concat(action || ' ' || state, ', ') AS ends FROM delivery"
    with serving(tmp_path, config) as (address, _):
        assert request(address, "POST", PATH, BODY, signed(BODY)).status == 200
        wait_until(lambda: "told succeeded, judged dead" in typed("sql", ends))
        typed("mark", "1")
        typed("mark", "7", "--days", "-1")
        link = typed("console").strip()
        browser = Browser(re.findall("//([^/]+)/", link)[0])
        metrics = browser.get("/metrics").text
        browser.sign_in(link)
        assert browser.get("/marks").text == "marks"
        assert 'href="/marks"' in browser.get("/").text
        assert len(json.loads(typed("events", "--marked", "--json"))) == 1
        assert "Event 1 was marked." in typed("status")
    assert (tmp_path / "appended").read_text() == "told\n"
    assert "premblyd_marks 2.0" in metrics
    subprocess.run([sys.executable, "-c", EXPIRE], cwd=tmp_path, check=True)
    assert "7" not in typed("sql", "SELECT event_number FROM mark")


def test_a_feature_is_a_folder_and_a_line(tmp_path: Path) -> None:
    config = built(PAGE, tmp_path)
    typed = typist(config)
    with serving(tmp_path, config):
        assert "  note    " in typed("--help")
        typed("note", "The CRM is slow")
        assert "The CRM is slow" in typed("status").splitlines()
        assert json.loads(typed("status", "--json"))["notes"] == ["The CRM is slow"]
    assert "The CRM is slow" in typed("sql", "SELECT text FROM note")
