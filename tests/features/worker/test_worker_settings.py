"""A worker's keys in the configuration."""

from pathlib import Path

import pytest

from premblyd.config.secrets import SecretPlaces
from premblyd.features.worker.settings import WorkerHook
from tests.support.rows import for_each


def worker(**keys: object) -> WorkerHook:
    places = SecretPlaces(Path(), {})
    return WorkerHook.model_validate({"worker": ["/bin/cat", "-u"], **keys}, context=places)


def test_a_worker_hook_has_a_time_to_start_and_one_for_each_line() -> None:
    plain = worker(timeout="5s")
    assert (plain.worker, plain.program) == (("/bin/cat", "-u"), "/bin/cat")
    assert (plain.timeout_ms, plain.start_timeout_ms, plain.longest_ms) == (5000, 30_000, 35_000)


@for_each(
    ("key", "value", "mistake"),
    [
        ("worker", [], "should have at least 1 item"),
        ("start_timeout", "0s", "should be greater than or equal to 1"),
        ("timeout", "soon", "should be a duration such as"),
    ],
)
def test_a_mistake_in_a_worker_hook_is_told(key: str, value: object, mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        worker(**{key: value})
