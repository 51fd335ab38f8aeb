"""Fixtures of several features' tests."""

from collections.abc import Iterator

import pytest

from tests.support.prembly_api import PremblyApi, prembly_api


@pytest.fixture
def api() -> Iterator[PremblyApi]:
    """A stand-in for Prembly's API."""
    with prembly_api() as running:
        yield running
