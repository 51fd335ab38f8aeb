"""One test for all rows of a table. pytest's `parametrize` makes a test of each row, which takes
each worker some milliseconds: that is for rows that need fixtures of their own."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest


def large(*values: Any) -> list[Any]:
    """Return rows for `parametrize` that only `-m large` runs."""
    return [pytest.param(value, marks=pytest.mark.large) for value in values]


def for_each(
    names: str | Sequence[str], rows: Iterable[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run the test with each row as the arguments `names`, the others after one that fails too. Its
    failure tells each of these rows."""
    names = names.replace(",", " ").split() if isinstance(names, str) else names
    table = list(rows)

    def of_all(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            failures: list[BaseException] = []
            for row in table:
                values = [row] if len(names) == 1 else row
                try:
                    test(**fixtures, **dict(zip(names, values, strict=True)))
                except (Exception, pytest.fail.Exception, BaseExceptionGroup) as failure:  # noqa: BLE001
                    failure.add_note(f"with {row!r}")
                    failures.append(failure)
            if failures:
                raise BaseExceptionGroup(f"{len(failures)} of {len(table)} rows", failures)

        wanted = inspect.signature(test)
        others = [value for name, value in wanted.parameters.items() if name not in names]
        run.__signature__ = wanted.replace(parameters=others)  # type: ignore[attr-defined]
        return run

    return of_all
