"""What is wrong with the keys that ask Prembly, told at its place."""

from pathlib import Path

import pytest

from premblyd.config.load import parse_config
from premblyd.config.secrets import SecretPlaces
from premblyd.ground.errors import ConfigError
from tests.support.rows import for_each

SMALL = """database: sqlite:///p.db
endpoints:
  - {name: p, path: /p, keys: {live: hush-text}}
"""
ACTION = f"{SMALL}actions:\n  - {{name: a, response_codes: [00, 01], "
ASKS = "asks Prembly, which needs a key: set"


@for_each(
    ("text", "expected"),
    [
        *(
            (f"{ACTION}shell: x, confirm: {word}}}", [f"5:60: {ASKS}"])
            for word in ("yes", "ON", "{}", "{unstated: [face_match]}", "{unstated: }")
        ),
        (ACTION + "shell: x, confirm: y}", ["5:60: should be true, false, or a mapping"]),
        (ACTION + "shell: x, confirm: {}}\nprembly: {api_key: }", [f"5:60: {ASKS}"]),
        (SMALL + "pending: {}", [f"4:1: {ASKS}"]),
        (SMALL + "prembly: {rate: 5}\npending: {ask: [1m]}", [f"5:1: {ASKS}"]),
        (
            SMALL + "prembly: {api_key: k, status: {path: /a}, url: 'https://h/?a'}",
            ["4:38: should be a path that begins with / and has {id}", "4:48: should be a URL"],
        ),
    ],
)
def test_a_problem_is_told_at_its_place(text: str, expected: list[str]) -> None:
    path = Path("/nowhere/p.yaml")
    with pytest.raises(ConfigError) as caught:
        parse_config(text, path, SecretPlaces(path.parent, {}))
    found = [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]
    assert [line[: len(start)] for line, start in zip(found, expected, strict=True)] == expected
    assert "hush" not in str(found)
