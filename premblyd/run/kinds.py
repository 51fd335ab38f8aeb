"""The kinds of hooks: what every runner has, and which one runs which kind."""

import pkgutil
from collections.abc import Awaitable, Iterable
from typing import Any, Protocol, TypeVar

from premblyd.config.hooks import CommandHook, Hook, HttpHook, ShellHook
from premblyd.config.models import Config
from premblyd.feature import added
from premblyd.queue.jobs import Result
from premblyd.run.invocation import Invocation
from premblyd.run.process import Children

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


# Where the class of each kind's runner is: it is imported for the first action with such a hook.
RUNNERS: dict[type[Hook], str] = {
    ShellHook: "premblyd.run.shell:ShellRunner",
    CommandHook: "premblyd.run.shell:ShellRunner",
    HttpHook: "premblyd.run.http:HttpRunner",
    **dict(added("kinds", "KINDS")),
}


def runner_of(kind: type[Hook]) -> type[Runner[Any]]:
    """Return the class that runs hooks of this kind."""
    found: type[Runner[Any]] = pkgutil.resolve_name(RUNNERS[kind])
    return found


class Runners:
    """The runners of a daemon: one is made for the first action, or alert, that needs it."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._settings: Config | None = None
        self._by_kind: dict[type[Hook], Runner[Any]] = {}
        self._interrupted = False

    def need(self, kinds: Iterable[type[Hook]]) -> None:
        """Make those that hooks of these kinds need. Raise OSError, RuntimeError or MemoryError,
        when the machine lacks something for that."""
        for kind in {*kinds} - self._by_kind.keys():
            wanted = runner_of(kind)
            made = {type(each): each for each in self._by_kind.values()}
            self._by_kind[kind] = made.get(wanted) or self._make(wanted)

    def configure(self, settings: Config) -> None:
        self._settings = settings
        for runner in {*self._by_kind.values()}:
            runner.configure(settings)

    def run(self, hook: Hook, invocation: Invocation) -> Awaitable[Result]:
        """Run the hook once, by the runner of its kind."""
        if type(hook) not in self._by_kind:
            self.need([type(hook)])
        return self._by_kind[type(hook)].run(hook, invocation)

    def _make(self, wanted: type[Runner[Any]]) -> Runner[Any]:
        runner = wanted(self._children)
        if self._settings is not None:
            runner.configure(self._settings)
        if self._interrupted:
            runner.interrupt()
        return runner

    def interrupt(self) -> None:
        self._interrupted = True
        for runner in {*self._by_kind.values()}:
            runner.interrupt()

    def close(self) -> None:
        for runner in {*self._by_kind.values()}:
            runner.close()
