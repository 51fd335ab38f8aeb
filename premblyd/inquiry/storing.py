"""Making an event of Prembly's answer: as if Prembly had sent it, with its exact bytes."""

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from premblyd.config.models import Config
from premblyd.inquiry.client import Answer
from premblyd.prembly import answers, events, settling
from premblyd.prembly.answers import Match, Question
from premblyd.prembly.payload import Verdict
from premblyd.prembly.webhook import Webhook
from premblyd.routing import Routing
from premblyd.store.answers import NewAnswer
from premblyd.store.inbox import NewDelivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The verification that is asked for, as the record knows it. `endpoint`: that of the event as
    which an answer is stored."""

    endpoint: str
    reference: str
    session_id: str | None = None

    @property
    def question(self) -> Question | None:
        """By what Prembly can be asked for it; None: by nothing."""
        return answers.question_about(self.verdict)

    @property
    def verdict(self) -> Verdict:
        """What is known of it."""
        return Verdict(reference=self.reference, session_id=self.session_id)


def why_not_settled(subject: Subject, question: Question, found: Verdict) -> str | None:
    """Return why an answer is not Prembly's last word on what was asked for, in words that quote
    nothing; None: it is."""
    if found.reference is None and found.outcome not in settling.FINAL_OUTCOMES:
        return "Prembly's answer has no verdict where it is looked for"
    named = found if found.reference else replace(found, reference=question.reference)
    asked = replace(subject.verdict, outcome=found.outcome)
    if question.reference is not None:  # who sent the event may have invented a session beside it
        asked = replace(asked, session_id=None)
    comparison = answers.compare(asked, named, question)
    if comparison.match is Match.OTHER:
        return comparison.words
    return None if settling.is_settled(found) else "Prembly does not know yet either"


class Storing:
    """Makes events of answers, as one configuration says: whom Prembly's answers are for."""

    def __init__(self, settings: Config) -> None:
        self._routing = Routing(settings.actions)
        self._host = (settings.prembly and urlsplit(settings.prembly.url).hostname) or ""

    def new_answer(self, subject: Subject, answer: Answer, now_ms: int) -> NewAnswer:
        """Return what is to be stored of an answer that is KNOWN. Of a large one that takes a
        while: not on the loop.

        The event has the reference by which the record knows the verification, whatever else the
        answer calls it: so `once` and what waits find it. Nothing is taken over from the event that
        began it, which nobody may have confirmed.
        """
        found = answer.verdict or Verdict()
        webhook = Webhook(
            endpoint=subject.endpoint,
            received_at_ms=now_ms,
            remote_ip=self._host,
            token=None,
            headers="[]",
            body=answer.body,
            verified_by=events.STORED_BY,
            verdict=replace(found, reference=subject.reference, type=events.STATUS),
        )
        actions = self._routing.actions_for(webhook)
        webhook.drop_document()
        return NewAnswer(
            webhook=webhook,
            deliveries=[
                NewDelivery(action.name, action.retry.attempts, action.then) for action in actions
            ],
            asked=subject.reference,
        )
