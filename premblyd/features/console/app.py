"""The console as the daemon has it: an application, its listener and its limits."""

import hashlib
import resource
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.template import Loader, Template
from tornado.web import Application, RequestHandler, StaticFileHandler

from premblyd.config.models import Config
from premblyd.feature import added, installed
from premblyd.features.console import event, lists, overview, signin
from premblyd.features.console.handler import HEADERS, NothingHere, Services
from premblyd.features.reading.readers import Readers
from premblyd.ground.databases import file_of
from premblyd.receive.listening import Listening
from premblyd.services import Services as DaemonServices

HOME = Path(__file__).parent
# Who is not signed in may send bodies too: so many times so much memory.
MAX_CONNECTIONS = 100
MAX_BODY_BYTES = 512 << 10  # a pasted payload
MAX_HEADER_BYTES = 32 << 10
IDLE_S, BODY_S = 20, 20


class Console:
    """The private pages, and the metrics, which may be public."""

    def __init__(self, listening: Listening, readers: Readers, daemon: DaemonServices) -> None:
        # Two daemons behind one name, on two ports, share their cookies otherwise.
        own = hashlib.sha256(str(daemon.database).encode()).hexdigest()[:8]
        self._services = Services(
            readers=readers,
            writer=daemon.writer,
            clock=daemon.clock,
            wake=daemon.wake,
            path=file_of(daemon.database),
            cookie=f"premblyd-{own}",
            expose=daemon.expose,
        )
        self._listening = listening
        self._server = _Server(
            _application(self._services),
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=MAX_BODY_BYTES,
            max_buffer_size=MAX_BODY_BYTES + MAX_HEADER_BYTES,
            idle_connection_timeout=IDLE_S,
            body_timeout=BODY_S,
        )
        self._server.add_sockets(listening.sockets)

    def configure(self, config: Config) -> None:
        """Use this configuration from the next request on."""
        self._services.config = config

    @property
    def address(self) -> str:
        """Where it listens, as `listen` has it."""
        return self._listening.addresses[0]

    async def close(self) -> None:
        """Accept no more, and end all connections."""
        self._server.stop()
        self._listening.close()
        await self._server.close_all_connections()


class _Server(HTTPServer):
    """Bounds its connections: the console must not take up the files that webhooks need."""

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        if len(self._connections) < max_connections():
            super().handle_stream(stream, address)
        else:
            stream.close()


def max_connections() -> int:
    """Return how many connections may be open: at most an eighth of the files that this process may
    open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 8)


class _Static(StaticFileHandler):
    """Style, script and icon: the same for everybody, and nothing of the record."""

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")  # asks each time whether it has changed


class _Templates(Loader):
    """Those of the console, and of features, in their folders of that name."""

    def _create_template(self, name: str) -> Template:
        for feature in installed():
            path = HOME.parent / feature / "templates" / name
            if path.exists():
                return Template(path.read_bytes(), name=name, loader=self)
        raise FileNotFoundError(name)


def _application(services: Services) -> Application:
    with_services = {"services": services}
    form = r"(?:\.json)?"
    pages: list[tuple[str, type[RequestHandler]]] = [
        (r"/sign-in", signin.SignIn),
        (r"/sign-out", signin.SignOut),
        (r"/metrics", overview.Metrics),
        (r"/(?:overview(?:\.json)?)?", overview.Overview),
        (rf"/events{form}", lists.Events),
        (r"/events/(\d{1,18}|[0-9a-f]{32})(?:\.json)?", event.Event),
        (r"/events/(\d{1,18})/reveal(?:\.json)?", event.Reveal),
        (rf"/dead{form}", lists.Dead),
        (r"/dead/replay(?:\.json)?", event.ReplayMany),
        (r"/dead/cancel(?:\.json)?", event.CancelMany),
        (rf"/deliveries{form}", lists.Deliveries),
        (r"/deliveries/(\d{1,18})", event.Delivery),
        (r"/deliveries/(\d{1,18})/replay(?:\.json)?", event.Replay),
        (r"/deliveries/(\d{1,18})/cancel(?:\.json)?", event.Cancel),
        (rf"/rejections{form}", lists.Rejections),
        (r"/actions(?:\.json)?", overview.Actions),
        (rf"/operators{form}", lists.Operators),
        *added("pages", "PAGES"),
    ]
    return Application(
        [
            *((pattern, handler, with_services) for pattern, handler in pages),
            (r"/static/([a-z]+\.(?:css|js|svg))", _Static, {"path": str(HOME / "static")}),
        ],
        default_handler_class=NothingHere,
        default_handler_args=with_services,
        template_loader=_Templates(str(HOME / "templates"), autoescape="xhtml_escape"),
        xsrf_cookies=True,
        xsrf_cookie_name=f"{services.cookie}-form",
        log_function=lambda handler: None,  # no line per request, with what is looked for in it
        serve_traceback=False,
    )
