"""The kinds of hooks: what every runner has, and which one runs which kind."""

import contextlib
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol, TypeVar

from premblyd.config.hooks import CommandHook, Hook, HttpHook, ShellHook
from premblyd.config.models import Config, Endpoint
from premblyd.feature import added
from premblyd.queue.jobs import Result
from premblyd.run.http import HttpRunner
from premblyd.run.invocation import Invocation
from premblyd.run.process import Children
from premblyd.run.shell import ShellRunner

H_contra = TypeVar("H_contra", bound=Hook, contravariant=True)


class Runner(Protocol[H_contra]):
    """Runs the hooks of one kind, or of kinds that are alike. The daemon has one of each."""

    def __init__(self, children: Children) -> None:
        """Make the runner. It makes the processes that it starts known in `children`."""

    def configure(self, settings: Config) -> None:
        """Use these settings from the next run on. What stays running for an action whose hook is
        the same goes on; that of others ends in good order."""

    async def run(self, hook: H_contra, invocation: Invocation) -> Result:
        """Run the hook once. Never raise for a hook that fails, and keep the body no longer than is
        needed: it may be large. Start by `Patience.run`, ask `permit.require` at the last moment,
        and end as `permit.ends_by` says."""

    def interrupt(self) -> None:
        """End all that runs, and start nothing more. What is ended counts as interrupted."""

    def close(self) -> None:
        """Give back what the runner holds. Nothing runs any more."""

    @staticmethod
    def preview(hook: H_contra, invocation: Invocation, endpoint: Endpoint) -> dict[str, Any]:
        """Return what `run` would do, with secrets masked. They need not have been looked up."""


# Rows of features are pairs: their modules know nothing of this one, which imports them.
RUNNERS: dict[type[Hook], type[Runner[Any]]] = {
    ShellHook: ShellRunner,
    CommandHook: ShellRunner,
    HttpHook: HttpRunner,
    **dict(added("kinds", "KINDS")),
}


class Runners:
    """The runners of a daemon, by the kinds of hooks that they run."""

    def __init__(self, by_kind: Mapping[type[Hook], Runner[Any]]) -> None:
        self._by_kind = by_kind
        self._all = set(by_kind.values())

    @classmethod
    def make(cls, children: Children) -> "Runners":
        """Make one runner of each class in the table. When one can't be made, close the others."""
        made: dict[type[Runner[Any]], Runner[Any]] = {}
        with contextlib.ExitStack() as opened:
            for runner in dict.fromkeys(RUNNERS.values()):
                made[runner] = runner(children)
                opened.callback(made[runner].close)
            opened.pop_all()
        return cls({kind: made[runner] for kind, runner in RUNNERS.items()})

    def configure(self, settings: Config) -> None:
        for runner in self._all:
            runner.configure(settings)

    def run(self, hook: Hook, invocation: Invocation) -> Awaitable[Result]:
        """Run the hook once, by the runner of its kind."""
        return self._by_kind[type(hook)].run(hook, invocation)

    def interrupt(self) -> None:
        for runner in self._all:
            runner.interrupt()

    def close(self) -> None:
        for runner in self._all:
            runner.close()


def preview(hook: Hook, invocation: Invocation, endpoint: Endpoint) -> dict[str, Any]:
    """Return what running the hook would do, with secrets masked."""
    return RUNNERS[type(hook)].preview(hook, invocation, endpoint)
