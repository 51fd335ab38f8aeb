"""Marks that stand for what is known of a person, and every place in which any of them is found,
however it is encoded."""

import base64
import json
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

from premblyd.features.postgresql.settings import Server
from premblyd.ground.databases import DatabaseAddress
from tests.support.database import reading

PIECE = 24  # characters of a long one that are sought on their own
EVERY = 400  # of it, so many apart


def encodings(text: str) -> dict[str, bytes]:
    """Return a text as somebody may have written it down, by the name of each way. A base64 of it
    begins anywhere in another: sought is what all of those have in common."""
    raw = text.encode()
    found = {"raw": raw, "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode()}
    found |= {f"UTF-16{end}": text.encode(f"utf-16-{end}") for end in ("LE", "BE")}
    found |= {"URL": quote(text, safe="").encode(), "form": quote_plus(text).encode()}
    found["JSON"] = json.dumps(text)[1:-1].encode()
    found["JSON in JSON"] = json.dumps(json.dumps(text))[3:-3].encode()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        first, last = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
        own = encoded[first:last]
        found[f"base64 +{shift}"] = own
        found[f"base64url +{shift}"] = own.translate(bytes.maketrans(b"+/", b"-_"))
    return found


@dataclass(frozen=True, slots=True)
class Marks:
    """What is sought, by its name: texts, and of photos their bytes."""

    needles: Mapping[str, dict[str, bytes]]

    @classmethod
    def of(cls, texts: Mapping[str, str], *, photos: Iterable[bytes] = ()) -> "Marks":
        needles = {name: encodings(text) for name, text in texts.items()}
        for number, photo in enumerate(photos, 1):
            coded = base64.b64encode(photo).decode()
            for at in range(0, len(coded) - PIECE, EVERY):
                needles[f"photo {number} at {at}"] = encodings(coded[at : at + PIECE])
            for at in range(0, len(photo) - PIECE, EVERY):
                needles[f"photo {number}, bytes at {at}"] = {"raw": photo[at : at + PIECE]}
        return cls(needles)

    @classmethod
    def joined(cls, marks: "Mapping[str, Marks]") -> "Marks":
        """Return those of several people, each by whose it is."""
        found = ((whose, *each) for whose, own in marks.items() for each in own.needles.items())
        return cls({f"{whose}, {name}": ways for whose, name, ways in found})

    def found_in(self, content: bytes) -> list[str]:
        """Return which marks are in `content`, and in which encodings."""
        return [
            f"{name} ({way})"
            for name, ways in self.needles.items()
            for way, needle in ways.items()
            if needle in content
        ]

    def without(self, *names: str) -> "Marks":
        """Return these marks without some."""
        return Marks({name: ways for name, ways in self.needles.items() if name not in names})


@dataclass(slots=True)
class Report:
    """What was looked through, and what was found where."""

    looked: dict[str, int] = field(default_factory=dict)  # bytes, by kind of place
    hits: list[str] = field(default_factory=list)

    def look(self, kind: str, place: str, content: bytes, marks: Marks) -> None:
        self.looked[kind] = self.looked.get(kind, 0) + len(content)
        self.hits += [f"{kind} {place}: {found}" for found in marks.found_in(content)]


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield every file in a folder and below, and its bytes; what ends meanwhile is left out. Who
    calls this must have no connection to a SQLite database in it: to close its file drops locks."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            yield path, path.read_bytes()
        except FileNotFoundError:
            continue


def of_process(pid: int) -> Iterator[tuple[str, bytes]]:
    """Yield what the kernel shows of a process: its arguments, its environment, and the files that
    it has open and that have no name any more."""
    own = Path(f"/proc/{pid}")
    for name in ("cmdline", "environ"):
        try:
            yield f"{pid}/{name}", (own / name).read_bytes()
        except OSError:  # it has ended, or is another user's
            continue
    try:
        descriptors = sorted((own / "fd").iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = os.readlink(descriptor)
            is_file = target.startswith("/") and target.endswith(" (deleted)")
            if is_file and not target.startswith("/dev/"):
                yield f"{pid}/fd {target}", descriptor.read_bytes()
        except OSError:
            continue


def tables(place: DatabaseAddress) -> Iterator[tuple[str, bytes]]:
    """Yield each table of a database as whoever may read it reads it."""
    listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    if not isinstance(place, Server):
        listed = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
    with reading(place) as connection:
        for (name,) in connection.execute(f"{listed} ORDER BY 1").fetchall():
            found = connection.execute(f"SELECT * FROM {name}").fetchall()
            yield name, b"\n".join(b"\t".join(_bytes(value) for value in row) for row in found)


def _bytes(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()


def photo(rng: random.Random, size: int) -> bytes:
    """Return a photo that nobody has taken before."""
    return b"\xff\xd8\xff\xe0" + rng.randbytes(size - 4)
