"""A kind of hook of its own: it appends a line for each event to a file.

Importing this adds it, as a model in config/hooks.py and a row in run/kinds.py would.
"""

from typing import Any

from premblyd.config.hooks import Hook
from premblyd.config.models import Config, Endpoint
from premblyd.config.values import NonEmpty
from premblyd.queue.jobs import Result
from premblyd.run.kinds import RUNNERS, Invocation
from premblyd.run.process import Children
from premblyd.store.states import AttemptOutcome


class AppendHook(Hook):
    """A line at the end of a file."""

    key = "append"
    append: NonEmpty


class AppendRunner:
    """Runs append hooks."""

    def __init__(self, _: Children) -> None: ...

    def configure(self, settings: Config) -> None: ...

    async def run(self, hook: AppendHook, invocation: Invocation) -> Result:
        with open(hook.append, "a") as file:
            file.write(f"{invocation.environment['PREMBLY_REFERENCE']}\n")
        return Result(outcome=AttemptOutcome.SUCCEEDED)

    def interrupt(self) -> None: ...

    def close(self) -> None: ...

    @staticmethod
    def preview(hook: AppendHook, invocation: Invocation, endpoint: Endpoint) -> dict[str, Any]:
        reference = invocation.environment["PREMBLY_REFERENCE"]
        return {"file": hook.append, "line": reference}


RUNNERS[AppendHook] = f"{__name__}:AppendRunner"
