"""The page of a dossier: one file that the person can read, print and keep."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from premblyd import times
from premblyd.model.keeptables import Lacks
from premblyd.record import printed
from premblyd.record.dossiers import document, timeline
from premblyd.record.dossiers.dossier import Chapter, Dossier
from premblyd.record.dossiers.timeline import Moment
from premblyd.record.printed import text
from premblyd.words import counted, duration, size, took

MOST_OUTPUT = 20_000
_FACTS = {
    "received_at_ms": "Received",
    "outcome": "Result",
    "response_code": "Code",
    "status": "Status",
    "detail": "In short",
    "verification_status": "Status of the check",
    "reference": "Prembly's reference",
    "user_ref": "Name of the person",
    "session_id": "Session",
    "face_match": "The face fits",
    "face_confidence": "How well the face fits",
    "risk_level": "Risk",
    "risk_score": "Risk, as a number",
    "doubt": "Why it is doubted",
    "type": "Kind of message",
    "remote_ip": "Sent by the computer",
}
_GONE = {
    Lacks.MEDIA: "The photos in this message have been removed, as their time was over: lengths and"
    " check sums stand in their places.",
    Lacks.BODY: "What this message said has been removed, as its time was over.",
    Lacks.IDENTITY: "What this message said, and whom it named, has been removed, as its time was"
    " over.",
    Lacks.ERASED: "What this message said, and whom it named, has been erased on request.",
}
_INTRODUCTION = (
    "Identities are checked here with the help of the company Prembly, which sends a message about"
    " each check. This is a copy of everything that is held here about you because of that: every"
    " message that names you, what was done because of it, who looked at it, and what has been"
    " removed."
)


def beginning(dossier: Dossier, moments: Sequence[Moment], made_by: str) -> Iterator[str]:
    """Yield the page up to the messages: who it is about, how much it is, and what happened
    when."""
    named = "user_ref" if dossier.by == "user_ref" else "reference"
    title = f"What is held about {dossier.name}"
    yield printed.beginning(title)
    yield f"<h1>What is held about <bdi>{text(dossier.name)}</bdi></h1>\n"
    yield (
        f'<p class="muted">As it was on {_time(dossier.made_at_ms)} UTC, found by the {named}.'
        f" Made by <bdi>{text(made_by)}</bdi>.</p>\n<p>{text(_INTRODUCTION)}</p>\n"
    )
    yield from _summary(dossier)
    yield "<h2>What happened, in order</h2>\n<table>\n<thead><tr>"
    yield '<th class="when" scope="col">When (UTC)</th><th scope="col">What</th></tr></thead>\n'
    yield "<tbody>\n"
    for moment in moments:
        link = f' <a href="#m{moment.event_id}">Message {moment.event_id}</a>'
        yield (
            f'<tr><td class="when">{_time(moment.at_ms)}</td>'
            f"<td><bdi>{text(moment.text)}</bdi>{link if moment.event_id else ''}</td></tr>\n"
        )
    yield "</tbody>\n</table>\n<h2>The messages</h2>\n"


def message(chapter: Chapter, body: bytes | None) -> Iterator[str]:
    """Yield the page's section about a message. `body`: None where it was removed."""
    event = chapter.event
    yield f'<section class="message" id="m{event.id}">\n<h3>Message {event.id}</h3>\n'
    if gone := _GONE.get(event.lacks):
        yield f'<p class="note">{gone}</p>\n'
    facts = [(words, getattr(event, name)) for name, words in _FACTS.items()]
    facts[0] = (_FACTS["received_at_ms"], f"{times.for_people(event.received_at_ms)} UTC")
    yield _list((words, value) for words, value in facts if value not in (None, ""))
    if body is not None:
        yield from _said(chapter, body)
    yield from _done(chapter)
    yield "</section>\n"


def end(dossier: Dossier) -> str:
    """Return the end of the page."""
    more = (
        "<h2>What is beside this page</h2>\n<ul>\n<li><code>record.json</code>: all of this, and"
        " what is technical, for programs.</li>\n<li><code>bodies</code>: each message exactly as"
        " it came.</li>\n<li><code>photos</code>: the photos and documents in them, if there are"
        " any.</li>\n</ul>\n"
    )
    return f"{more}</body>\n</html>\n"


def _summary(dossier: Dossier) -> Iterator[str]:
    lacking = [lacks for lacks in dossier.lacks.values() if lacks]
    lines = [f"{counted(len(dossier.lacks), 'message')} in all."]
    for lacks, words in (
        (Lacks.MEDIA, "had photos, which have been removed"),
        (Lacks.BODY, "said something that has been removed"),
        (Lacks.IDENTITY, "named somebody, which has been removed"),
        (Lacks.ERASED, "have been erased on request"),
    ):
        if count := lacking.count(lacks):
            lines.append(f"{counted(count, 'message')} {words}.")
    for count, sentence in (
        (
            len(dossier.nameless_ids),
            "{} without anybody's name, here since another of the same reference names you. If it"
            " is not about you, tell us.",
        ),
        (
            dossier.others,
            "Not in this copy: {} of somebody else, under the same references.",
        ),
        (
            len(dossier.doubtful_ids),
            "Not in this copy: {} without anybody's name, under references that somebody else has"
            " too. Ask about it.",
        ),
    ):
        if count:
            lines.append(sentence.format(counted(count, "message")))
    if dossier.holds:
        lines.append("Somebody has said that nothing of it may be removed for now: see below.")
    yield "<ul>\n"
    yield from (f"<li>{text(line)}</li>\n" for line in lines)
    yield "</ul>\n"


def _said(chapter: Chapter, body: bytes) -> Iterator[str]:
    yield "<h4>All that it says</h4>\n"
    found = document.values(body)
    if found is None:
        yield f'<p class="muted">It is no text that can be shown: {_file(chapter)}.</p>\n'
        return
    yield "<dl>\n"
    for number, value in enumerate(found, 1):
        name = chapter.photo_file(number, value.kind) if value.kind else None
        link = f' <a href="{name}">{name}</a>' if name else ""
        yield f"<dt><bdi>{text(_readable(value.name))}</bdi></dt>"
        yield f"<dd><bdi>{text(value.text)}</bdi>{link}</dd>\n"
    yield "</dl>\n"
    whole = "All of it, as it came" if len(found) < document.MOST_VALUES else "There is more"
    yield f'<p class="muted">{whole}: {_file(chapter)} ({size(len(body))}).</p>\n'


def _done(chapter: Chapter) -> Iterator[str]:
    for delivery in chapter.deliveries:
        stands = timeline.DELIVERIES.get(delivery.state, delivery.state)
        yield f"<h4>The action “<bdi>{text(delivery.action)}</bdi>” {text(stands)}</h4>\n"
        if delivery.confirmed_facts:
            yield _list([("Prembly, asked, said", delivery.confirmed_facts)])
        for attempt in chapter.attempts[delivery.id]:
            lasted = duration(took(attempt.started_at_ms, attempt.finished_at_ms))
            outcome = text(attempt.outcome or "begun").replace("_", " ")
            error = f": <bdi>{text(attempt.error)}</bdi>" if attempt.error else ""
            yield f"<p>{_time(attempt.started_at_ms)} UTC: {outcome}, after {lasted}{error}</p>\n"
            if attempt.output:
                cut = attempt.output[:MOST_OUTPUT]
                more = "\n…" if len(attempt.output) > MOST_OUTPUT else ""
                yield f"<p>The program said:</p>\n<pre><bdi>{text(cut)}{more}</bdi></pre>\n"


def _file(chapter: Chapter) -> str:
    return f'<a href="{chapter.body_file}">{chapter.body_file}</a>'


def _list(pairs: Iterable[tuple[str, Any]]) -> str:
    rows = "".join(
        f"<dt><bdi>{text(_readable(name))}</bdi></dt><dd><bdi>{text(value)}</bdi></dd>\n"
        for name, value in pairs
    )
    return f"<dl>\n{rows}</dl>\n"


def _readable(name: str) -> str:
    return re.sub(r"(?<=\w)_(?=\w)", " ", name)


def _time(ms: Any) -> str:
    return text(times.for_people(ms))
