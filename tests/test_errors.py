"""Every exception of premblyd has one base, which the command line turns into words."""

import importlib
from collections.abc import Iterator
from pathlib import Path

from peewee import DoesNotExist

import premblyd
from premblyd.errors import PremblydError

ROOT = Path(premblyd.__file__).parent


def subclasses(error: type[BaseException]) -> Iterator[type[BaseException]]:
    for each in error.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_exception_has_the_one_base_and_says_what_it_means() -> None:
    for module in ROOT.rglob("*.py"):
        parts = module.relative_to(ROOT.parent).with_suffix("").parts
        if parts[-1] not in ("__main__", "__init__") and "migrations" not in parts:
            importlib.import_module(".".join(parts))
    own = {
        error
        for error in subclasses(Exception)  # what else is raised is no error, and only stops work
        if error.__module__.startswith("premblyd.")
        and not issubclass(error, DoesNotExist)  # Peewee makes one for each model
    }
    assert len(own) > 10
    assert {error for error in own if not issubclass(error, PremblydError)} == set()
    assert {error for error in own if not error.__doc__} == set()
