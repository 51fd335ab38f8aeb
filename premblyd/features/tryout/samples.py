"""Sample webhooks of each kind, with invented people: for `demo`, `send` and `explain`.

`sdk` and `api` are the two shapes of Prembly's webhook page.
"""

import re
import secrets
import string
from pathlib import Path

# Read with the module, as code is: `check` may be tried as a user who can't look in here.
_BODIES = {
    path.stem: path.read_bytes().rstrip(b"\n")
    for path in (Path(__file__).parent / "bodies").glob("*.json")
}
_ID = re.compile(rb"sample-[a-z-]+-\d{4}")
SENDER = "premblyd-send"  # how the token and the User-Agent of all that `send` sends begin
NAMES = tuple(sorted(_BODIES))


def sample(name: str) -> bytes:
    """Return the body of the sample called `name`, one of NAMES."""
    return _BODIES[name]


def fresh_sample(name: str) -> bytes:
    """Return the sample called `name` with ids that nothing had before, so that it is a new event
    wherever it is sent. `wallet` has none: it is as it is."""
    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(12))
    return _ID.sub(rb"\g<0>-" + letters.encode(), sample(name))
