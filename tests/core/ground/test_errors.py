"""Every exception of premblyd has one base, which the command line turns into words."""

from collections.abc import Iterator

from peewee import DoesNotExist

from premblyd.ground.errors import PremblydError
from tests.support.forking import import_all


def subclasses(error: type[BaseException]) -> Iterator[type[BaseException]]:
    for each in error.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_exception_has_the_one_base_and_says_what_it_means() -> None:
    import_all()
    own = {
        error
        for error in subclasses(Exception)  # what else is raised is no error, and only stops work
        if error.__module__.startswith("premblyd.")
        and not issubclass(error, DoesNotExist)  # Peewee makes one for each model
    }
    assert len(own) > 10
    assert [error for error in own if not issubclass(error, PremblydError)] == []
    assert [error for error in own if not error.__doc__] == []
