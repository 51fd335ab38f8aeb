"""The kinds of hooks: which runner runs which."""

import contextlib
from collections.abc import Awaitable, Mapping
from typing import Any

from premblyd.config.hooks import CommandHook, Hook, HttpHook, ShellHook
from premblyd.config.models import Config, Endpoint
from premblyd.queue.jobs import Result
from premblyd.run.children import Children
from premblyd.run.http.runner import HttpRunner
from premblyd.run.invocation import Invocation
from premblyd.run.preview import Preview
from premblyd.run.runner import Runner
from premblyd.run.shell.runner import ShellRunner

RUNNERS: dict[type[Hook], type[Runner[Any]]] = {
    ShellHook: ShellRunner,
    CommandHook: ShellRunner,
    HttpHook: HttpRunner,
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


def preview(hook: Hook, invocation: Invocation, endpoint: Endpoint) -> Preview:
    """Return what running the hook would do, with secrets masked."""
    return RUNNERS[type(hook)].preview(hook, invocation, endpoint)
