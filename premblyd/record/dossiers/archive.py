"""A dossier as one file: a ZIP with a page to read, the same for programs, and the bodies. It is
written as it is read, so that there is never more than a message in memory."""

import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import BinaryIO

from premblyd import __version__, jsontext
from premblyd.engines.engine import Database
from premblyd.record.dossiers import document, page, timeline
from premblyd.record.dossiers import dossier as dossiers
from premblyd.record.dossiers.dossier import Chapter, Dossier
from premblyd.record.dossiers.timeline import Moment
from premblyd.record.operating import RecordedExport

FORMAT = "premblyd-person/1"
MANY = 10_000  # events: what is written of them may be more than 2 GiB


def write(
    out: BinaryIO, database: Database, dossier: Dossier, recorded: RecordedExport, made_by: str
) -> None:
    """Write a dossier that it is on record to be taken out. Raise ChangedMeanwhileError when
    something of it was erased meanwhile: what is written is worth nothing then."""
    archive = _Archive(out, dossier)
    moments = list(timeline.of_person(dossier))

    def chapters() -> Iterator[Chapter]:
        return dossiers.chapters(database, dossier, recorded)

    with archive.zip:
        archive.add("record.json", _document(dossier, chapters(), moments, made_by))
        for chapter in chapters():
            if name := chapter.body_file:
                body = dossiers.body_of(database, chapter.event.id)
                archive.add(name, [body])
                for number, value in enumerate(document.values(body) or (), 1):
                    if value.kind:
                        photo = chapter.photo_file(number, value.kind)
                        archive.add(photo, [value.photo], small=True)
        archive.add("page.html", _page(database, dossier, chapters(), moments, made_by))
        dossiers.require_unchanged(database, dossier)


class _Archive:
    def __init__(self, out: BinaryIO, dossier: Dossier) -> None:
        self.zip = zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._made = time.gmtime(max(dossier.made_at_ms // 1000, 315_532_800))[:6]  # 1980
        self._is_large = len(dossier.lacks) > MANY

    def add(self, name: str, pieces: Iterable[bytes], *, small: bool = False) -> None:
        """Add a file. `small`: it can't be made smaller."""
        about = zipfile.ZipInfo(name, self._made)
        about.compress_type = zipfile.ZIP_STORED if small else zipfile.ZIP_DEFLATED
        about.create_system = 3  # Unix, whose rights follow
        about.external_attr = 0o600 << 16
        with self.zip.open(about, "w", force_zip64=self._is_large) as member:
            for piece in pieces:
                member.write(piece)


def _document(
    dossier: Dossier, chapters: Iterable[Chapter], moments: list[Moment], made_by: str
) -> Iterator[bytes]:
    """Yield `record.json`, and put what happened into `moments`, in the order of time."""
    about = {
        "format": FORMAT,
        "made_at_ms": dossier.made_at_ms,
        "made_by": made_by,
        "version": __version__,
        "found_by": dossier.by,
        "name": dossier.name,
        "withheld": list(dossiers.WITHHELD),
        "nameless": list(dossier.nameless_ids),
        "not_included": {"of_others": dossier.others, "doubtful": len(dossier.doubtful_ids)},
        "holds": list(map(asdict, dossier.holds)),
        "closings": list(map(asdict, dossier.closings)),
        "erasures": list(map(asdict, dossier.erasures)),
        "names": list(map(asdict, dossier.names)),
        "inquiries": list(map(asdict, dossier.inquiries)),
        "exports_of_many": list(map(asdict, dossier.exports)),
    }
    yield jsontext.dumps(about)[:-1] + b',\n"events":['
    comma = b"\n"
    for chapter in chapters:
        moments += timeline.of_chapter(chapter)
        yield comma + jsontext.dumps(chapter.as_json())
        comma = b",\n"
    moments[:] = sorted(set(moments))
    yield b'],\n"timeline":['
    comma = b"\n"
    for moment in moments:
        yield comma + jsontext.dumps(moment.as_json())
        comma = b",\n"
    yield b"]}\n"


def _page(
    database: Database,
    dossier: Dossier,
    chapters: Iterable[Chapter],
    moments: list[Moment],
    made_by: str,
) -> Iterator[bytes]:
    def pieces() -> Iterator[str]:
        yield from page.beginning(dossier, moments, made_by)
        for chapter in chapters:
            body = dossiers.body_of(database, chapter.event.id) if chapter.has_body else None
            yield from page.message(chapter, body)
        yield page.end(dossier)

    return (piece.encode("utf-8", "replace") for piece in pieces())
