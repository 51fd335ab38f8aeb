"""Making an event of Prembly's answer: as if Prembly had sent it, with its exact bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from premblyd.ask.answered import NewAnswer
from premblyd.ask.client import Answer
from premblyd.ask.requirement import ActionRequirement
from premblyd.config.models import Config
from premblyd.prembly import agreement, answers, events
from premblyd.prembly.answers import Question, Stated
from premblyd.prembly.payload import Verdict, Webhook
from premblyd.queue.inbox import NewDelivery
from premblyd.rereading import Rereading
from premblyd.verifications.stored import Read


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


class Storing:
    """Makes events of answers, as one configuration says: whom Prembly's answers are for."""

    def __init__(self, settings: Config) -> None:
        self.rereading = Rereading(settings)
        self.routing = self.rereading.routing
        self.read: Read = self.rereading.verdict  # what other events of a verification say
        self._host = (settings.prembly and urlsplit(settings.prembly.url).hostname) or ""
        self._names_reference = settings.prembly is None or settings.prembly.status.names_reference

    def why_not_settled(self, subject: Subject, question: Question, answer: Answer) -> str | None:
        """Return why an answer is not Prembly's last word on what was asked for, in words that
        quote nothing; None: it is."""
        stated = answer.stated or Stated(verdict=Verdict(), is_empty=True)
        found = stated.verdict
        asked = replace(subject.verdict, outcome=found.outcome, response_code=found.response_code)
        if question.reference is not None:  # who sent the event may have invented a session to it
            asked = replace(asked, session_id=None)
        no_use = agreement.why_of_no_use(
            asked, stated, question, names_reference=self._names_reference
        )
        if no_use is not None:
            return no_use.words
        is_settled = found.is_settled and not stated.is_processing
        return None if is_settled else agreement.NOT_YET

    def new_answer(self, subject: Subject, answer: Answer, now_ms: int) -> NewAnswer:
        """Return what is to be stored of an answer that is KNOWN. Of a large one that takes a
        while: not on the loop.

        Its actions must take it together with all that the record has of the verification, too.

        The event has the reference by which the record knows the verification, whatever else the
        answer calls it: so `once` and what waits find it. Nothing is taken over from the event that
        began it, which nobody may have confirmed.
        """
        stated = answer.stated or Stated(verdict=Verdict(), is_empty=True)
        found, question = stated.verdict, subject.question
        names = answers.all_names(question, stated) if question else ()
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
        actions = {action.name: action for action in self.routing.actions_for(webhook)}

        def is_for(name: str, others: Sequence[Verdict]) -> bool:
            requirement = ActionRequirement(actions[name], webhook, self.routing)
            return agreement.withstands(webhook.verdict, others, requirement)

        return NewAnswer(
            webhook=webhook,
            deliveries=[
                NewDelivery(action.name, action.retry.attempts, action.then)
                for action in actions.values()
            ],
            asked=subject.reference,
            is_for=is_for,
            names=names,
            read=self.read,
        )
