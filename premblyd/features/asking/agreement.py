"""Whether an answer of Prembly's API confirms an event, so that a hook may run for it.

The answer must be about the same verification, agree with the event, and be enough for the action
by itself: what it is silent about proves nothing. No words here quote an event or an answer.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from premblyd.features.asking.answers import (
    Question,
    Stated,
    facts_of,
    is_given_id,
    says_code_alone,
)
from premblyd.features.asking.standing import (
    DATA_CODE,
    FACTS,
    FINAL_CODES,
    is_left_open,
    own_reference,
)
from premblyd.ground.privacy import safe_code
from premblyd.prembly import facts, payload
from premblyd.prembly.payload import Outcome, Verdict


class Finding(StrEnum):
    """What an answer means for an event."""

    CONFIRMED = "confirmed"
    ASK_AGAIN = "ask again"  # Prembly does not say yet, or not enough
    CONTRADICTED = "contradicted"
    SETTLED_SINCE = "settled since"  # the event left it open, and Prembly knows by now
    STILL_OPEN = "still open"  # both say that Prembly tries again


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What was found, and why in words. Of a CONFIRMED one, `verdict` is the event's with what the
    answer states put over it, and `stated` names what that is."""

    finding: Finding
    words: str = ""
    verdict: Verdict | None = None
    stated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What an action asks of an event. `looks_at`: the names that its `when` looks at.
    `may_be_unstated`: the facts that an answer need not state. `takes_code`: whether it takes
    events with this response code. `says_yes`: whether its `when` says yes to the event, if its
    facts were these; one that fails says no."""

    looks_at: Collection[str]
    may_be_unstated: Collection[str]
    takes_code: Callable[[str | None], bool]
    says_yes: Callable[[Verdict], bool]


MAX_OTHERS = 100  # different things that events of one reference say
NO_VERDICT = (
    "Prembly's answer states no verification where it is looked for"
    " (`prembly: {status: {fields: …}}` can say where)"
)
NO_NAME = (
    "Prembly's answer names no reference where it is looked for (`prembly: {status: {fields: …}}`"
    " can say where, and `names_reference: false` that there is none)"
)
NO_DOUBT = "the event is doubted, and Prembly's answer says nothing against the person"
NOT_YET = "Prembly does not know yet either"
NO_RESULT = "Prembly's answer does not state outcome"
STILL_OPEN = "still open: neither the event nor Prembly's answer has a result"
SETTLED_SINCE = "settled since: Prembly's answer has the result, and was stored as an event"


def decide(
    event: Verdict,
    answer: Stated,
    question: Question,
    requirement: Requirement,
    *,
    names_reference: bool = True,
) -> Agreement:
    """Return what the `answer` to `question` means for an event and an action. `names_reference`:
    whether Prembly's answers name the verification that they are about."""
    if found := why_of_no_use(event, answer, question, names_reference=names_reference):
        return found
    if is_left_open(event) and answer.is_final:
        return Agreement(finding=Finding.SETTLED_SINCE, words=SETTLED_SINCE)
    if is_left_open(event) != answer.is_open:
        return _ask_again(NOT_YET if answer.is_open else NO_VERDICT)
    answer = _without_customer(event, answer)
    if difference := _difference(event, answer.verdict, are_open=answer.is_open):
        return _contradicted(difference)
    # Of a true event, Prembly's no may come later.
    if event.doubt and not _says_no(answer.verdict):
        return _ask_again(NO_DOUBT)
    stated = facts_of(answer.verdict)
    if event.doubt:  # who doubts an event is not talked out of it
        stated.pop("outcome", None)
    merged = replace(event, **stated)
    if words := _why_not_for(requirement, event, merged, answer):
        return _contradicted(words)
    if answer.is_open:
        if any(_waits_for_money(each) for each in (event, answer.verdict)):
            return _ask_again(NOT_YET)
        return Agreement(finding=Finding.STILL_OPEN, words=STILL_OPEN)
    if not _is_enough(event, answer):
        return _ask_again(NO_RESULT)
    if unstated := _unstated(requirement, merged, answer):
        return _ask_again(f"Prembly's answer does not state {', '.join(unstated)}")
    named = ("reference",) if answer.names and own_reference(event) else ()
    return Agreement(finding=Finding.CONFIRMED, verdict=merged, stated=(*named, *stated))


def why_of_no_use(
    asked: Verdict, answer: Stated, question: Question, *, names_reference: bool = True
) -> Agreement | None:
    """Return what an answer means that can't tell anything of the verification that was `asked`
    for; None: it can."""
    if found := _about_another(asked, answer, question, names_reference=names_reference):
        return found
    if answer.is_empty and not answer.is_processing:
        return _ask_again(NO_VERDICT)
    if answer.says_no and not _states_its_no(asked, answer.verdict):
        return _ask_again("Prembly's answer says that the question failed")
    if answer.verdict.doubt:
        return _ask_again(f"Prembly's answer does not agree with itself: {answer.verdict.doubt}")
    return None


def withstands(answer: Verdict, others: Collection[Verdict], requirement: Requirement) -> bool:
    """Return whether an answer that was stored as an event passes an action's requirement also when
    it is put together with each of the `others`, which are all about the same verification: what
    it is silent about, one of them may say no to. Nothing that they say can make up for it."""
    if len(others) > MAX_OTHERS:  # somebody sends no end of them
        return False
    return all(_withstands(answer, other, requirement) for other in others)


def _withstands(answer: Verdict, other: Verdict, requirement: Requirement) -> bool:
    unknown = _RESULT if is_left_open(other) else ()  # then, which is no word against it
    silent = {*FACTS} - facts_of(answer).keys() - {*unknown}
    both = replace(answer, **{name: getattr(other, name) for name in silent})
    doubts = other.doubt.split(",")
    if _misfit(both) or any(_DOUBTS_OF.get(name) in doubts for name in silent):
        both = replace(both, outcome=Outcome.UNKNOWN)  # as of one body that says both
    code = both.response_code
    is_taken = code == answer.response_code or code is None or _takes(requirement, code)
    return is_taken and requirement.says_yes(both)


def _about_another(
    asked: Verdict, answer: Stated, question: Question, *, names_reference: bool
) -> Agreement | None:
    session_id, reference = answer.verdict.session_id, own_reference(asked)
    one, other = (payload.same_id(each or "") for each in (asked.session_id, session_id))
    if one and other and one != other:
        return _contradicted("Prembly's answer is about another session")
    # Whoever knows a session's id has no other one's. But he can put any reference beside it, such
    # as another's with a space that hooks strip.
    if reference is None:
        if asked.session_id and payload.plain_id(asked.session_id) in answer.names:
            return _contradicted("what the event calls a session is a reference at Prembly")
        # A reference that somebody sends as a session's id can't be told from one otherwise.
        may_be_other = not names_reference and not is_given_id(asked.session_id or "")
        return None if session_id or (may_be_other and answer.names) else _ask_again(NO_NAME)
    if payload.plain_id(reference) in answer.names:
        return None
    # Prembly has two kinds of ids for one verification, and may answer with the other alone.
    if any(payload.is_uuid(name) == payload.is_uuid(reference) for name in answer.names):
        return _contradicted("Prembly's answer is about another reference")
    if question.reference is None or names_reference:
        return _ask_again(NO_NAME)
    return None


def _without_customer(event: Verdict, answer: Stated) -> Stated:
    """Return an answer without a `customer_reference` that is not the event's user_ref: it may be
    that of an order."""
    if answer.is_user_ref_sure or answer.verdict.user_ref == event.user_ref:
        return answer
    return replace(answer, verdict=replace(answer.verdict, user_ref=None))


def _says_no(answer: Verdict) -> bool:
    is_no = answer.outcome is Outcome.NOT_VERIFIED or answer.face_match is False
    return is_no or facts.is_other_code(answer.response_code)


def _states_its_no(asked: Verdict, answer: Verdict) -> bool:
    """Return whether an answer whose envelope says no is what a webhook would be, whose `status` is
    about the person: of somebody who is not verified, and whose event says so too."""
    if asked.outcome is Outcome.NOT_VERIFIED is answer.outcome:
        return True
    return asked.response_code in FINAL_CODES and answer.response_code == asked.response_code


def _is_enough(event: Verdict, answer: Stated) -> bool:
    """Return whether an answer has the result: of an event that has a word, or no code, 01 or 07
    alone is none."""
    if answer.verdict.outcome is not Outcome.UNKNOWN:
        return answer.is_final
    is_code = answer.is_final and says_code_alone(event)
    return is_code and event.response_code == answer.verdict.response_code


def _waits_for_money(verdict: Verdict) -> bool:
    """Return whether this is 03: who knows until when."""
    return verdict.outcome is Outcome.UNKNOWN and verdict.response_code == "03"


def _difference(event: Verdict, answer: Verdict, *, are_open: bool) -> str | None:
    """Return in words what both state, and differently."""
    if Outcome.UNKNOWN not in (answer.outcome, event.outcome) and answer.outcome != event.outcome:
        return f"Prembly's answer says outcome {answer.outcome}, the event {event.outcome}"
    there, here = answer.response_code, event.response_code
    if not are_open and there is not None and here is not None and there != here:
        codes = f"code {safe_code(there)}, the event {safe_code(here)}"
        return f"Prembly's answer says {codes}"
    if None not in (answer.face_match, event.face_match) and answer.face_match != event.face_match:
        said = str(answer.face_match).lower(), str(event.face_match).lower()
        return "Prembly's answer says face_match {}, the event {}".format(*said)
    if answer.user_ref and event.user_ref and answer.user_ref != event.user_ref:
        return "Prembly's answer names another user_ref than the event"
    return None


def _why_not_for(
    requirement: Requirement, event: Verdict, merged: Verdict, answer: Stated
) -> str | None:
    """Return in words why the action is not for the event, now that the answer is known."""
    if misfit := _misfit(merged):
        return misfit
    code = answer.verdict.response_code
    if code is not None and event.response_code is None and not _takes(requirement, code):
        return f"Prembly's answer says code {safe_code(code)}, which the action does not take"
    if not requirement.says_yes(merged):
        return "`when` is false for what Prembly's answer says"
    return None


def _misfit(verdict: Verdict) -> str | None:
    """Return in words what does not fit, which in one body would be its doubt (see facts)."""
    if verdict.outcome is not Outcome.VERIFIED:
        return None
    if facts.is_other_code(verdict.response_code):
        return f"{_NO_FIT} another code than 00"
    return f"{_NO_FIT} face_match false" if verdict.face_match is False else None


_NO_FIT = "Prembly's answer and the event do not fit together: VERIFIED and"
_RESULT = ("response_code", "outcome", "verification_status", "status", "detail")
_DOUBTS_OF = {"response_code": facts.Doubt.CODE, "face_match": facts.Doubt.FACE}


def _takes(requirement: Requirement, code: str) -> bool:
    is_data = code == DATA_CODE  # which newer events leave out
    return requirement.takes_code(code) or (is_data and requirement.takes_code(None))


def _unstated(requirement: Requirement, merged: Verdict, answer: Stated) -> list[str]:
    """Return what the answer would have to state so that the hook may run: that without which
    `when` is false."""
    stated = facts_of(answer.verdict)
    silent = [
        name for name in FACTS if name not in stated and name not in requirement.may_be_unstated
    ]
    told_by_event = facts_of(merged).keys() & requirement.looks_at
    told = [name for name in silent if name in told_by_event]
    if requirement.says_yes(_without(merged, told)):
        return []
    return [name for name in told if not requirement.says_yes(_without(merged, [name]))] or told


def _without(verdict: Verdict, names: Collection[str]) -> Verdict:
    """Return what is left when these facts are not stated."""
    changes: dict[str, Any] = dict.fromkeys(names)
    if "outcome" in changes:
        changes["outcome"] = Outcome.UNKNOWN
    return replace(verdict, **changes)


def _ask_again(words: str) -> Agreement:
    return Agreement(finding=Finding.ASK_AGAIN, words=words)


def _contradicted(words: str) -> Agreement:
    return Agreement(finding=Finding.CONTRADICTED, words=words)
