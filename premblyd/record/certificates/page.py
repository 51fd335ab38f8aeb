"""A certificate as a page to print: one HTML file that loads nothing and runs nothing."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from premblyd import times
from premblyd.record import printed
from premblyd.record.certificates.certificate import Certificate
from premblyd.record.certificates.stored import StoredCertificate
from premblyd.record.certificates.summary import (
    COLUMNS,
    RECEIVED_COLUMNS,
    TITLE,
    Summary,
    facts,
)
from premblyd.record.printed import text
from premblyd.words import counted, number

# Of each verification of these a digest is on the page; of all, in the JSON.
LISTED = ("missing", "unsettled", "unconfirmed", "erased")
MOST_LISTED = 500  # of each


class Table(NamedTuple):
    """A table: the heads of its columns, and its rows, of which the first cell is a name."""

    title: str
    heads: list[str]
    rows: list[list[Any]]


def pieces(certificate: Certificate, stored: StoredCertificate) -> Iterator[str]:
    """Yield the page."""
    summary = certificate.summary
    title = f"{TITLE}, {summary.day}"
    yield printed.beginning(title)
    yield f"<main>\n<h1>{text(title)}</h1>\n"
    yield f'<p class="muted">{text(made(summary, stored))}</p>\n'
    yield f'<p class="note"><strong>{text(summary.statement)}</strong></p>\n'
    yield _list(each.words for each in summary.reasons)
    yield _list(facts(summary))
    for title, heads, rows in tables(summary):
        yield f"<h2>{text(title)}</h2>\n{_table(title, heads, rows)}"
    words = (f"{head}: {meaning}." for head, meaning in COLUMNS.values())
    yield f'<p class="muted">{text(" ".join(words))}</p>\n'
    for name in LISTED:
        yield from _digests(certificate, name)
    yield _about_digests(certificate)
    yield "</main>\n</body>\n</html>\n"


def made(summary: Summary, stored: StoredCertificate) -> str:
    """Return when it was made, as which, and whether the day was certified before."""
    again = (
        f" {counted(stored.made_before, 'certificate')} of this day"
        f" {'was' if stored.made_before == 1 else 'were'} made before: this one counts."
        if stored.made_before
        else ""
    )
    at = times.for_people(summary.made_at_ms)
    since, until = (times.for_people(ms) for ms in (summary.since_ms, summary.until_ms))
    return (
        f"From {since} until before {until} UTC. Certificate {stored.number}, made on {at} UTC by"
        f" premblyd {summary.version}.{again}"
    )


def tables(summary: Summary) -> Iterator[Table]:
    """Yield the tables of a certificate."""
    by_type = {**summary.by_type, "all": summary.total}
    yield Table(
        "Verifications in Prembly's log, by product",
        ["Product", *(head for head, _ in COLUMNS.values())],
        [[type_, *(getattr(its, name) for name in COLUMNS)] for type_, its in by_type.items()],
    )
    received = summary.received.items()
    yield Table(
        "Events received on the day, by type",
        ["Type", *RECEIVED_COLUMNS.values()],
        [[type_, *(getattr(its, name) for name in RECEIVED_COLUMNS)] for type_, its in received],
    )


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return '<p class="muted">None.</p>\n'
    first, *others = heads
    head = "".join(f'<th scope="col" class="count">{text(each)}</th>' for each in others)
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th>'
        + "".join(f'<td class="count">{text(number(each))}</td>' for each in counts)
        + "</tr>\n"
        for name, *counts in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(title)}">\n<table>\n'
        f'<thead><tr><th scope="col">{text(first)}</th>{head}</tr></thead>\n<tbody>\n{body}'
        "</tbody>\n</table>\n</div>\n"
    )


def _digests(certificate: Certificate, name: str) -> Iterator[str]:
    count = getattr(certificate.summary.total, name)
    if not count:
        return
    head, meaning = COLUMNS[name]
    yield f"<h2>{text(head)}</h2>\n<p>{text(meaning.capitalize())}.</p>\n<ul>\n"
    found = (each for each in certificate.verifications() if name in each.states)
    for each in itertools.islice(found, MOST_LISTED):
        yield f"<li><code>{each.digest}</code> {text(each.type)}</li>\n"
    yield "</ul>\n"
    if count > MOST_LISTED:
        yield f"<p>And {text(number(count - MOST_LISTED))} more: the JSON has all.</p>\n"


def _about_digests(certificate: Certificate) -> str:
    summary = certificate.summary
    pairs = (
        ("Key of the digests", summary.key),
        ("Fingerprint of all digests", summary.fingerprint),
        ("Nonce of the fingerprint", certificate.nonce),
    )
    items = "".join(f"<dt>{name}</dt><dd><code>{value}</code></dd>\n" for name, value in pairs)
    return (
        "<h2>The digests</h2>\n<p>A digest stands for a verification's reference: HMAC-SHA256 by a"
        " key that the certificate does not hold. Who has the key can make the same of a reference;"
        " who has not learns nothing by it. The record keeps the numbers and the fingerprint, so it"
        f" shows whether these are the digests of then.</p>\n<dl>\n{items}</dl>\n"
    )


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{text(each)}</li>\n" for each in sentences)
    return f"<ul>\n{items}</ul>\n" if items else ""
