"""Metrics for Prometheus: for who is signed in, or for all where the configuration says so."""

from http import HTTPStatus

from tornado.web import HTTPError

from premblyd.console import origin, words
from premblyd.console.handler import Handler, Refused


class Metrics(Handler):
    """GET /metrics."""

    async def _admit(self) -> None:
        """Let in whom `metrics` says. Prometheus knows the console by any name, has no browser and
        sends no cookie."""
        match self.services.settings.metrics:
            case "public":
                return
            case "off":
                if origin.is_own_host(self.request.host, self.services.settings):
                    self.session = await self.find_session()
                if self.session is None:
                    raise Refused(401, "not_signed_in", words.SIGN_IN)
                raise HTTPError(404)
        await super()._admit()

    def _ask_to_sign_in(self) -> None:
        raise Refused(401, "not_signed_in", words.SIGN_IN)

    async def get(self) -> None:
        exposition = await self.services.metrics.expose(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", exposition.content_type)
        self.finish(exposition.text)

    def write_error(self, status_code: int, **_: object) -> None:
        """Say it in a line: no person reads this."""
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        hint = "\nFor Prometheus: console: {metrics: public}" if status_code == 401 else ""
        self.finish(f"{HTTPStatus(status_code).phrase}{hint}\n")
