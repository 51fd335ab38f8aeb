"""What asks Prembly in a running daemon: before hooks, and for results that are pending."""

from premblyd.config.models import Config
from premblyd.config.routing import Routing
from premblyd.features.asking.awaited import AwaitedQueue
from premblyd.features.asking.client import Inquirer
from premblyd.features.asking.confirm import ConfirmGate
from premblyd.features.asking.pending import PendingAsker
from premblyd.features.asking.settings import PENDING, PREMBLY, may_ask
from premblyd.features.asking.settling import Answers, Settling
from premblyd.services import Part, Services


class Asking(Part):
    """Both ask by one `Inquirer`, within one rate."""

    def open(self, services: Services) -> None:
        writer, clock, kept = services.writer, services.clock, Answers(services.writer)
        self._inquirer = Inquirer(clock)
        services.opened.callback(self._inquirer.close)
        self._confirmation = self.gate = ConfirmGate(self._inquirer, services.queue, kept, clock)
        self._pending = PendingAsker(
            AwaitedQueue(writer),
            kept,
            self._inquirer,
            clock,
            services.wake,
            is_leader=services.is_leader,
        )
        self._heartbeat = services.heartbeat
        self.loops = {"pending": self._pending.run}

    def prepare(self, settings: Config, routing: Routing) -> Settling:
        return Settling(settings, routing)

    def configure(self, settings: Config, prepared: Settling) -> None:
        self._inquirer.configure(PREMBLY.of(settings))
        self._pending.configure(PENDING.of(settings), prepared)
        self._confirmation.configure(prepared)
        self._heartbeat.remedy = lambda since: (
            f"premblyd reconcile --since {since} --store"
            if may_ask(settings)
            else "set `api_key` in `prembly:`"
        )

    async def stop(self) -> None:
        self._inquirer.interrupt()
        await self._pending.stop()


PARTS = (Asking,)
