"""Whom a request is from: refuses what another site has a browser send, and names that are not the
console's (DNS rebinding)."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from premblyd.config.console import Console

OWN_SITES = frozenset({"same-origin", "none"})  # none: the person typed it


def is_own_host(host: str, settings: Console) -> bool:
    """Return whether `host`, a request's header, names this console: localhost, an address, the
    host that it listens on, or that of `url`. A site that resolves its own name to this machine
    comes with that name."""
    name = _hostname(host)
    if name is None:
        return False
    if name in {"localhost", settings.listen.host.lower()} or is_public_name(host, settings):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_public_name(host: str, settings: Console) -> bool:
    """Return whether `host` is that of `url`."""
    return settings.url is not None and _hostname(host) == urlsplit(settings.url).hostname


def is_own_page(headers: Mapping[str, str], host: str, settings: Console) -> bool:
    """Return whether a page of the console itself sent this request. Old browsers send none of
    these headers, and browsers send Sec-Fetch-Site to no plain http:// but localhost's."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None and site not in OWN_SITES:
        return False
    origin = headers.get("Origin")
    if origin is None:
        return True
    # A proxy may pass another Host on, so `url` counts too.
    return origin in {f"http://{host}", f"https://{host}"} or origin == settings.url


def is_safe_target(path: str) -> bool:
    """Return whether `path` leads to a page of the console, and to no other site."""
    return path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
