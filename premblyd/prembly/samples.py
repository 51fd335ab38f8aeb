"""Sample webhooks of each kind, with invented people: for `demo`, `send` and `explain`.

`sdk` and `api` are the two shapes of Prembly's webhook page.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent / "samples"
NAMES = tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def sample(name: str) -> bytes:
    """Return the body of the sample called `name`, one of NAMES."""
    if name not in NAMES:
        raise KeyError(name)
    return (_FOLDER / f"{name}.json").read_bytes().rstrip(b"\n")
