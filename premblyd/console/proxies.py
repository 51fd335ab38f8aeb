"""Who is signed in by a proxy, which says so at each request."""

import hmac

from tornado.httputil import HTTPHeaders

from premblyd.config.console import SECRET_HEADER, SignInProxy
from premblyd.record.access import Session

MAX_NAME = 100  # characters


def person_in(headers: HTTPHeaders, proxy: SignInProxy) -> str | None:
    """Return whom a request is from, if the proxy itself has sent it; None: it does not say, or
    names several."""
    secret = headers.get(SECRET_HEADER, "").encode("latin-1", "replace")
    if not hmac.compare_digest(secret, proxy.secret.reveal().encode()):
        return None
    names = headers.get_list(proxy.header)
    name = _decoded(names[0]).strip() if len(names) == 1 else ""
    return name if name.isprintable() and 0 < len(name) <= MAX_NAME else None


def _decoded(text: str) -> str:
    """Return a header's text, of which Tornado reads each byte as a letter, as the configuration
    has it; empty for what is no UTF-8. Who is named there must not come as anybody else (`*`)."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return ""


def session_of(person: str, proxy: SignInProxy) -> Session | None:
    """Return as whom somebody is let in; None: there is no role for them."""
    role = proxy.role_of(person)
    return None if role is None else Session(id=None, person=person, role=role, expires_at_ms=None)
