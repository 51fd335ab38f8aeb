"""Webhooks as Prembly sends them."""

from premblyd.prembly import signature

KEY = "the-key-of-the-tests"
PATH = "/webhooks/prembly"
SECRET_PATH = f"{PATH}/5c0a7d0f4b1e4f3c9f5f1d2b8e6a7c90"  # nobody can guess it
BODY = b'{"response_code":"00","verification":{"status":"VERIFIED","reference":"r-1"}}'


def signed(body: bytes, key: str = KEY, **more: str) -> dict[str, str]:
    """Return the headers with which Prembly sends `body`; `more` adds some, `_` standing for -."""
    own = {"Content-Type": "application/json", signature.HEADER: signature.sign(body, key)}
    return own | {name.replace("_", "-"): value for name, value in more.items()}


def head(headers: dict[str, str], method: str = "POST", path: str = PATH) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: h", *(f"{n}: {v}" for n, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def webhook(body: bytes, headers: dict[str, str] | None = None, path: str = PATH) -> bytes:
    """Return a whole request; signed, unless other headers are given."""
    sized = {"Content-Length": str(len(body))}
    return head((signed(body) if headers is None else headers) | sized, path=path) + body
