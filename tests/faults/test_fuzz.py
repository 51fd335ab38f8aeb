"""Random input, in short; the long form is `python -m tests.faults.fuzz`."""

from pathlib import Path

import pytest

from premblyd.config.load import parse_config
from premblyd.config.secrets import SecretPlaces
from premblyd.ground.errors import ConfigError
from tests.faults.fuzz import run

CASES = 500


def test_random_input_breaks_no_property(tmp_path: Path) -> None:
    assert sum(run(tmp_path, CASES, seed=5).values()) >= CASES


def test_half_a_character_in_the_configuration_is_a_problem_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "premblyd.yaml"
    with pytest.raises(ConfigError, match=r"premblyd\.yaml:2:9: half a character"):
        parse_config('\nlisten: "\\ud800"', path, SecretPlaces(tmp_path, {}))
