"""What Prembly's API answers when it is asked about a verification.

Sources: docs.prembly.com, "verification status check" (the envelope; what is in its `data` is not
documented), "get verification status" (an older page, which shows it), "SDK back-end webhooks" (a
session's answer). So all places are read where one of these, or a webhook, has something to say.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

from premblyd.features.asking.standing import (
    FACTS,
    FINAL_CODES,
    is_final,
    is_left_open,
    own_reference,
)
from premblyd.ground.expressions import Expression
from premblyd.prembly import bodies, events, facts, payload
from premblyd.prembly.bodies import FIELDS, ByPath, FieldName, Places
from premblyd.prembly.facts import Doubt, Facts
from premblyd.prembly.payload import Outcome, Verdict

# What Prembly's ids are made of; no URL can be led elsewhere by it.
_ASKABLE = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._:~-]{0,199}")
NOTHING_TO_ASK_BY = (
    "can't be confirmed: this event has no reference or session that Prembly can be asked for"
)
_NOT_FOUND_CODE = "01"
# Of the whole answer, not of the verification: whether the question could be answered.
_ENVELOPE = ("status", "success", "message", "detail")
_WITHIN = ("session", "response", "verification_response")  # objects in `data`
_CODES = ("response_code", "responseCode")
_SURE_USER_REFS = Places(
    *(path for path in FIELDS["user_ref"].paths if not path.endswith("customer_reference"))
)
# By which an object calls the verification that it is. What is in another object may be of another
# one, such as of a document, or of the session that it was begun in.
_OWN_IDS = Places(
    "verification.reference", "reference", "referenceId", "reference_id", "verification_id"
)
_OWN_SESSION = Places("session_id")
_OPEN_WORDS = ("pending", "processing", "in-progress", "queued")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which verification is asked for. A session's id is a secret, so it is no `reference`."""

    identifier: str = field(repr=False)
    reference: str | None  # None: the identifier is a session's

    @property
    def path_segment(self) -> str:
        """The identifier as it stands in a URL: one segment of its path, whatever is in it."""
        return quote(self.identifier, safe="")


class Ids(NamedTuple):
    """By which ids one object of an answer calls the verification: sessions as digests, and others
    in their plain spelling (see payload.plain_id)."""

    references: frozenset[str]
    sessions: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What an answer states of a verification. In `verdict`, what is None (or an unknown outcome)
    is not stated. `names`: by which the answer calls the verification anywhere, each in its plain
    spelling. `objects`: the ids in each of its objects."""

    verdict: Verdict
    names: frozenset[str] = frozenset()
    objects: tuple[Ids, ...] = ()
    says_no: bool = False  # the envelope says that the question failed
    is_processing: bool = False  # Prembly is still at work, it says in some word
    is_user_ref_sure: bool = True  # false: it is a `customer_reference`
    is_empty: bool = False  # neither a status word nor a code nor a face

    @property
    def is_open(self) -> bool:
        """Whether Prembly says that it will know later."""
        return self.is_processing or is_left_open(self.verdict)

    @property
    def is_final(self) -> bool:
        """Whether this is Prembly's last word: VERIFIED, NOT-VERIFIED, or 01 or 07 and no word."""
        return is_final(self.verdict) and not self.is_processing


NOTHING = Stated(verdict=Verdict(), is_empty=True)


def facts_of(verdict: Verdict) -> dict[str, Any]:
    """Return what a verdict states of the FACTS, and not those on which it is silent."""
    found = {name: getattr(verdict, name) for name in FACTS}
    return {name: value for name, value in found.items() if value not in (None, Outcome.UNKNOWN)}


def says_code_alone(verdict: Verdict) -> bool:
    """Return whether a verdict is 01 or 07 without a status word."""
    return verdict.response_code in FINAL_CODES and verdict.verification_status is None


def question_about(verdict: Verdict) -> Question | None:
    """Return by what Prembly can be asked about an event: its reference, or else its session; None
    when it has neither, none that can be an id of Prembly's, or is about no verification."""
    if not events.is_about_verification(verdict.type):
        return None
    reference, session_id = own_reference(verdict), verdict.session_id
    if reference and is_askable(reference):
        return Question(identifier=reference, reference=reference)
    if session_id and is_askable(session_id):
        return Question(identifier=session_id, reference=None)
    return None


def is_askable(identifier: str) -> bool:
    """Return whether `identifier` can be an id of Prembly's. Whoever knows the public key can send
    any text as a reference, and it is to be a part of a URL."""
    return _ASKABLE.fullmatch(identifier) is not None


def read(body: bytes, fields: Mapping[FieldName, Expression] | None = None) -> Stated | None:
    """Return what an answer states of a verification; None when it is no JSON object. `fields` says
    where a field is found in the answer, if not where Prembly's pages say."""
    document = bodies.parse(body)
    return None if document is None else _stated(document, fields or {})


def is_unknown_to_prembly(stated: Stated) -> bool:
    """Return whether an answer says that there is no such verification: code 01, and no more.
    (Code 01 of a verification is about the person, and names the verification.)"""
    verdict = stated.verdict
    says_more = stated.names or verdict.session_id or verdict.verification_status
    return verdict.response_code == _NOT_FOUND_CODE and not says_more


def all_names(question: Question, stated: Stated) -> tuple[str, ...]:
    """Return by which names Prembly knows a verification, as its answer to a question says: what it
    was asked for, and what the same object of the answer calls so too. References come first, that
    of the question before others, and sessions are digests."""
    if question.reference is None:
        asked = payload.session_reference(question.identifier)
        same = [ids for ids in stated.objects if asked in ids.sessions]
        first, last = [], [asked]
    else:
        asked = payload.plain_id(question.reference)
        same = [ids for ids in stated.objects if asked in ids.references]
        first, last = [asked], []
    references = filter(is_given_id, sorted({name for ids in same for name in ids.references}))
    sessions = sorted({name for ids in same for name in ids.sessions})
    return tuple(dict.fromkeys([*first, *references, *sessions, *last]))


def is_given_id(name: str) -> bool:
    """Return whether a name is one that Prembly gives to a verification, and no session: `N/A` or
    `order-17` may be those of many."""
    return payload.is_uuid(name) or name.startswith("ver_")


def _stated(document: dict[str, Any], fields: Mapping[FieldName, Expression]) -> Stated:
    layers = [bodies.by_path(layer) for layer in _layers(document)]
    parts = [payload.recognise(layer[""]) for layer in layers]
    placed = payload.recognise(document, fields) if fields else Verdict()
    found: dict[str, Any] = {
        name: getattr(placed, name) if name in fields else _first(getattr(p, name) for p in parts)
        for name in FIELDS
    }
    is_user_ref_sure = "user_ref" in fields or found["user_ref"] is None
    if not is_user_ref_sure:
        sure = _first(payload.text_of(_SURE_USER_REFS.find(layer)) for layer in layers)
        is_user_ref_sure, found["user_ref"] = sure is not None, sure or found["user_ref"]
    if "reference" not in fields and (own := _first(own_reference(part) for part in parts)):
        found["reference"] = own  # rather than a digest of another layer's session
    values: dict[FieldName, Any] = {name: getattr(placed, name) for name in fields}
    said = [Facts(layer, values, fields, is_answer=True) for layer in layers]
    words = [word for each in said for word in each.words]
    codes = {part.response_code for part in ([placed] if "response_code" in fields else parts)}
    codes.discard(None)
    faces = {face for each in said if (face := each.face_match) is not None}
    outcomes = {payload.outcome_of(word) for word in words}
    # What does not fit: between layers, and beside a VERIFIED.
    told: dict[Doubt, set[Any]] = {
        Doubt.STATUS: outcomes,
        Doubt.CODE: codes,
        Doubt.FACE: faces,
    }
    doubts = {doubt for doubt, said_of_it in told.items() if len(said_of_it) > 1}
    if any(each.says_verified for each in said):
        doubts |= {doubt for each in said for doubt in each.doubts()}
    if words:
        found["verification_status"] = payload.text_of(words[0])
    verdict = Verdict(
        **found
        | {
            "kind": payload.Kind.API,
            "type": events.STATUS,
            "outcome": outcomes.pop() if len(outcomes) == 1 and not doubts else Outcome.UNKNOWN,
            "face_match": None if not faces else False not in faces,
            "doubt": facts.in_words(doubts),
        }
    )
    statuses = [document.get("status"), *(part.status for part in parts), *words]
    return Stated(
        verdict=verdict,
        names=_names(layers, placed, fields),
        objects=_objects(layers, placed, fields),
        says_no=any(
            facts.is_no_success(word) and facts.plain_word(word) not in _OPEN_WORDS
            for word in (document.get("status"), document.get("success"))
        ),
        is_processing=any(facts.plain_word(word) in _OPEN_WORDS for word in statuses),
        is_user_ref_sure=is_user_ref_sure,
        is_empty=not (words or codes or faces),
    )


def _layers(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of an answer that may speak of the verification: the root without what is
    the envelope's, and those within it."""
    data = _one(document.get("data"))
    session, *others = [
        _one(data.get(name)) if isinstance(data, dict) else None for name in _WITHIN
    ]
    response = _one(document.get("response"))
    inner = [each for each in (response, session, data, *others) if isinstance(each, dict)]
    taken: tuple[str, ...] = _ENVELOPE
    if isinstance(data, dict):
        taken += ("data",)
    if isinstance(response, dict):
        taken += ("response",)
    inner_codes = [
        value for layer in inner for value in FIELDS["response_code"].values(bodies.by_path(layer))
    ]
    if any(code != "" for code in inner_codes):  # then 00 says that the question was answered
        taken += tuple(name for name in _CODES if not facts.is_other_code(document.get(name)))
    return [bodies.without(document, taken), *inner]


def _one(value: Any) -> Any:
    """Return the only item of a list, and all else as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _names(
    layers: list[ByPath], placed: Verdict, fields: Mapping[FieldName, Expression]
) -> frozenset[str]:
    if "reference" in fields:
        found = [placed.reference]
    else:
        found = [
            payload.text_of(value)
            for layer in layers
            for value in (FIELDS["reference"].find(layer), *payload.OTHER_IDS.values(layer))
        ]
    return frozenset(payload.plain_id(name) for name in found if name)


def _objects(
    layers: list[ByPath], placed: Verdict, fields: Mapping[FieldName, Expression]
) -> tuple[Ids, ...]:
    if fields.keys() & {"reference", "session_id"}:
        return (_ids([placed.reference], [placed.session_id]),)
    return tuple(_ids(_OWN_IDS.values(layer), _OWN_SESSION.values(layer)) for layer in layers)


def _ids(references: Iterable[Any], sessions: Iterable[Any]) -> Ids:
    return Ids(
        frozenset(payload.plain_id(text) for each in references if (text := payload.text_of(each))),
        frozenset(
            payload.session_reference(text) for each in sessions if (text := payload.text_of(each))
        ),
    )


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)
