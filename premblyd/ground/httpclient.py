"""The HTTP client of hooks, heartbeats, questions to Prembly and `premblyd send`: bounded, and
obeying no environment variable."""

import asyncio
import email.utils
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders, HTTPInputError

from premblyd import __version__

# libcurl reads SSLKEYLOGFILE when it is loaded, and writes the TLS keys of every connection there.
# The C library reads HOSTALIASES when a name is looked up. So both go before that.
for _variable in ("SSLKEYLOGFILE", "HOSTALIASES"):
    os.environ.pop(_variable, None)
KEPT_BYTES = 64 << 10  # of a response's body, unless the caller keeps more
MAX_READ_BYTES = 16 << 20  # of a response that does not end; its status counts all the same
_E_PROXY, _E_TOO_LARGE = 97, 100  # curl/curl.h; pycurl has no names for them
CLOSE_S = 1.0
MAX_HEAD_BYTES = 64 << 10  # of all the heads of one response, those of 1xx too
# Where systems keep the certificates they trust. OpenSSL's own places come last: they can be
# those of the machine that built it, and Python's list follows SSL_CERT_FILE.
CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",  # SUSE
    ssl.get_default_verify_paths().openssl_cafile,
)


Method = Literal["GET", "POST"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it goes out. Headers may hold secrets, and so may the URL."""

    url: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    method: Method = "POST"


@dataclass(frozen=True, slots=True)
class Response:
    """What was answered; `status` 0 and an `error` when nothing was. `truncated`: the body was
    longer than what was to be kept. `unsent`: `may_send` said no."""

    status: int
    body: bytes
    truncated: bool
    retry_after: str | None = None
    error: str | None = None
    timed_out: bool = False
    unsent: bool = False


class _Incoming:
    """A response as it comes in. libcurl calls its methods, so they must not raise: what a callback
    raises is printed, with the line that the target sent."""

    def __init__(self, kept_bytes: int) -> None:
        self.status = 0
        self._kept_bytes = kept_bytes
        self.retry_after: str | None = None
        self.body = bytearray()
        self.head_too_large = False
        self._head_bytes = 0
        self._body_bytes = 0

    @property
    def truncated(self) -> bool:
        return self._body_bytes > self._kept_bytes

    @property
    def endless(self) -> bool:
        return self._body_bytes > MAX_READ_BYTES

    def head_line(self, line: bytes) -> int:
        """Take a line of the head, and keep of it what is used: a target may send anything."""
        self._head_bytes += len(line)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.head_too_large = True
            return 0  # ends the transfer
        if line.startswith(b"HTTP/"):  # a response's first line; those of 1xx come before
            code = line.split(None, 2)[1:2]
            self.status = int(code[0]) if code and code[0].isdigit() and len(code[0]) == 3 else 0
            self.retry_after = None
        name, _, value = line.partition(b":")
        if name.lower() == b"retry-after":
            self.retry_after = value.strip().decode("latin-1")
        return len(line)

    def body_piece(self, piece: bytes) -> int:
        self._body_bytes += len(piece)
        self.body += piece[: self._kept_bytes - len(self.body)]
        return 0 if self.endless else len(piece)

    def response(self, status: int) -> Response:
        return Response(status, bytes(self.body), self.truncated, self.retry_after)

    def failure(self, error: str, *, timed_out: bool = False) -> Response:
        return Response(0, bytes(self.body), self.truncated, error=error, timed_out=timed_out)


def _libcurl() -> Any:
    """Return pycurl. The first client loads it: one that sends nothing saves 5 MB of memory."""
    import pycurl

    return pycurl


class HttpClient:
    """A client that keeps connections and follows no redirect. It sends as many requests at once as
    it is given, and keeps a handle of libcurl's for each."""

    def __init__(self) -> None:
        from tornado.curl_httpclient import CurlAsyncHTTPClient  # it loads libcurl

        self._client = CurlAsyncHTTPClient(force_instance=True, max_clients=1)
        # The wheel's libcurl looks for certificates where only Red Hat has them.
        self._ca_file = system_certificates()

    async def send(
        self,
        request: Request,
        timeout_s: float,
        *,
        kept_bytes: int = KEPT_BYTES,
        ca_file: str | None = None,
        unix_path: str = "",
        proxy: str = "",
        may_send: Callable[[], bool] = lambda: True,
    ) -> Response:
        """Send `request`, by `proxy` or else straight, if it `may_send` once the connection is
        there. Never raise: the response tells what went wrong."""
        incoming = _Incoming(kept_bytes)
        pycurl = _libcurl()

        def prepare(curl: Any) -> None:
            _ignore_surroundings(curl, proxy)
            if unix_path:
                curl.setopt(pycurl.UNIX_SOCKET_PATH, unix_path)
            curl.setopt(
                pycurl.PREREQFUNCTION,
                lambda *_: pycurl.PREREQFUNC_OK if may_send() else pycurl.PREREQFUNC_ABORT,
            )
            curl.setopt(pycurl.HEADERFUNCTION, incoming.head_line)
            curl.setopt(pycurl.WRITEFUNCTION, incoming.body_piece)

        try:
            self._have_a_handle()
            fetching = self._client.fetch(
                _for_tornado(request, timeout_s, ca_file or self._ca_file, prepare),
                raise_error=False,
            )
            # A cancelled `await` would cancel it too, and Tornado logs what comes after that.
            fetching.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait((fetching,))
            fetched = fetching.result()
        except HTTPClientError as failure:  # raise_error=False is about status codes alone
            if incoming.endless:
                return incoming.response(incoming.status)
            if incoming.head_too_large:
                return incoming.failure("the head of the answer is too large")
            if getattr(failure, "errno", None) == pycurl.E_ABORTED_BY_CALLBACK:
                return Response(0, b"", False, error="it may not be sent any more", unsent=True)
            error, timed_out = _curl_error(failure)
            return incoming.failure(error, timed_out=timed_out)
        except (ValueError, HTTPInputError, pycurl.error):  # a header or URL that can't be sent
            return Response(0, b"", False, error="the request can't be sent as configured")
        # Tornado makes an error of 500, which refers to the response again, and to the request: its
        # body would stay in memory until the collector looks for cycles.
        fetched.error = None
        return incoming.response(fetched.code)

    def _have_a_handle(self) -> None:
        """Make one more handle when all are in use. Tornado would make all of them at the start:
        thousands of actions may run thousands of hooks at once, and hardly ever do."""
        if not self._client._free_list:
            self._client._free_list.append(self._client._curl_create())
            self._client._curls += self._client._free_list

    def close(self) -> None:
        """Close it. libcurl waits for the look-up of each name, also of what was given up: of a
        resolver that gets no answer for half a minute. Nobody here waits so long."""
        closing = threading.Thread(target=self._client.close, daemon=True)
        try:
            closing.start()
            closing.join(CLOSE_S)
        except RuntimeError:  # the machine lacks a thread for it
            self._client.close()
        # While libcurl gives up what still runs, it asks Tornado to call it once more, which would
        # fail now that it is closed.
        if self._client._timeout is not None:
            self._client.io_loop.remove_timeout(self._client._timeout)


def system_certificates() -> str | None:
    """Return the file of the certificates that this system trusts; None if it has none."""
    return next((path for path in CERTIFICATES if Path(path).is_file()), None)


def retry_after_s(value: str | None, now_s: float) -> float:
    """Read a Retry-After header, seconds or a date (RFC 9110, 10.2.3); 0 when it says nothing."""
    if not value:
        return 0
    if value.strip().isdecimal() and len(value) < 12:
        return float(value)
    try:
        return max(0, email.utils.parsedate_to_datetime(value).timestamp() - now_s)
    except (ValueError, OverflowError):
        return 0


def _for_tornado(
    request: Request, timeout_s: float, ca_file: str | None, prepare: Callable[[Any], None]
) -> HTTPRequest:
    return HTTPRequest(
        request.url,
        method=request.method,
        headers=_headers(request.headers),
        body=request.body if request.method == "POST" else None,
        connect_timeout=timeout_s,
        request_timeout=timeout_s,
        follow_redirects=False,
        decompress_response=False,  # a kilobyte could become a gigabyte
        ca_certs=ca_file,
        prepare_curl_callback=prepare,
        user_agent=f"premblyd/{__version__}",
    )


def _ignore_surroundings(curl: Any, proxy: str) -> None:
    """Let the configuration alone say where a body goes, and not what surrounds the process:
    libcurl obeys http_proxy, all_proxy and their like, unless it is told otherwise."""
    pycurl = _libcurl()
    curl.setopt(pycurl.PROXY, proxy)  # empty: none
    curl.setopt(pycurl.NOPROXY, "")  # else libcurl obeys no_proxy
    curl.setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)


def _curl_error(error: HTTPClientError) -> tuple[str, bool]:
    """Return libcurl's error in our words: its own may quote the URL, which may be a secret."""
    number = getattr(error, "errno", None)
    pycurl = _libcurl()
    words = {
        pycurl.E_URL_MALFORMAT: "the URL is none that can be asked",
        pycurl.E_COULDNT_RESOLVE_HOST: "the host name can't be resolved",
        pycurl.E_COULDNT_RESOLVE_PROXY: "the proxy's name can't be resolved",
        pycurl.E_COULDNT_CONNECT: "connection refused or unreachable",
        _E_PROXY: "the proxy refused or failed",
        _E_TOO_LARGE: "the head of the answer is too large",
        pycurl.E_OPERATION_TIMEDOUT: "no answer in time",
        pycurl.E_PEER_FAILED_VERIFICATION: "the TLS certificate is not trusted",
        pycurl.E_SSL_CONNECT_ERROR: "the TLS handshake failed",
        pycurl.E_GOT_NOTHING: "the server closed the connection without an answer",
        pycurl.E_RECV_ERROR: "the connection broke while reading",
        pycurl.E_PARTIAL_FILE: "the connection broke in the middle of the answer",
        pycurl.E_SEND_ERROR: "the connection broke while sending",
    }
    timed_out = number in (pycurl.E_OPERATION_TIMEDOUT, None)
    return words.get(number, f"no answer (libcurl error {number})"), timed_out


def _headers(pairs: list[tuple[str, str]]) -> HTTPHeaders:
    headers = HTTPHeaders()
    for name, value in pairs:
        headers.add(name, value)
    return headers
