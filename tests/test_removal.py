"""The house's rule: without a feature's folder and line, the rest is whole."""

from pathlib import Path

import pytest

from premblyd.features import FEATURES
from tests.removal import broken, core_alone, going_with

pytestmark = pytest.mark.large


@pytest.mark.parametrize("feature", FEATURES)
def test_without_a_feature_the_rest_is_whole(feature: str, tmp_path: Path) -> None:
    assert list(broken(going_with({feature}), tmp_path)) == []


def test_without_all_features_the_core_is_whole(tmp_path: Path) -> None:
    assert list(broken(set(FEATURES), tmp_path)) == []


def test_without_all_features_the_cores_tests_pass(tmp_path: Path) -> None:
    assert core_alone(tmp_path) == ""
