"""What every kind of hook has: a runner."""

from typing import Protocol, TypeVar

from premblyd.config.hooks import Hook
from premblyd.config.models import Config, Endpoint
from premblyd.queue.jobs import Result
from premblyd.run.children import Children
from premblyd.run.invocation import Invocation
from premblyd.run.preview import Preview

H_contra = TypeVar("H_contra", bound=Hook, contravariant=True)


class Runner(Protocol[H_contra]):
    """Runs the hooks of one kind, or of kinds that are alike. The daemon has one of each."""

    def __init__(self, children: Children) -> None:
        """Make the runner. What processes it starts are to be known in `children`."""

    def configure(self, settings: Config) -> None:
        """Use these settings from the next run on."""

    async def run(self, hook: H_contra, invocation: Invocation) -> Result:
        """Run the hook once. Never raise for a hook that fails, and keep the body no longer than is
        needed: it may be large. Start by `permit.run`, ask `permit.require` at the last moment, and
        end as `permit.ends_by` says."""

    def interrupt(self) -> None:
        """End all that runs, and start nothing more. What is ended counts as interrupted."""

    def close(self) -> None:
        """Give back what the runner holds. Nothing runs any more."""

    @staticmethod
    def preview(hook: H_contra, invocation: Invocation, endpoint: Endpoint) -> Preview:
        """Return what `run` would do, with secrets masked. They need not have been looked up."""
