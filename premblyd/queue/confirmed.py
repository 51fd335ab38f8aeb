"""What Prembly's answer confirmed of an event: kept with the delivery, so that each attempt of its
hook gets the same."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from premblyd.prembly.agreement import Agreement
from premblyd.prembly.answers import FACTS, facts_of
from premblyd.prembly.payload import Outcome, StoredEvent
from premblyd.queue.jobs import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The facts that an answer with this digest states, by their names in Verdict; `reference`
    among them when it names the event's."""

    facts: Mapping[str, Any]
    sha256: str | None = None

    @classmethod
    def of(cls, event: StoredEvent, agreement: Agreement, sha256: str | None) -> Self:
        """Return what was found of `event`."""
        facts = {name: getattr(agreement.verdict, name) for name in agreement.stated}
        return cls(facts=facts, sha256=sha256)

    @classmethod
    def by_itself(cls, event: StoredEvent) -> Self:
        """Return what an event states that is Prembly's answer itself."""
        verdict = event.verdict
        named = {"reference": verdict.reference} if verdict.reference is not None else {}
        return cls(facts={**named, **facts_of(verdict)}, sha256=event.body_sha256.hex())

    @classmethod
    def read(cls, text: Any) -> Self:
        """Read what `text` wrote. Raise ValueError when somebody changed it."""
        facts = json.loads(text) if isinstance(text, str) else None
        if not isinstance(facts, dict) or not facts.keys() <= {"reference", *FACTS}:
            raise ValueError("not what was confirmed")
        if "outcome" in facts:
            facts["outcome"] = Outcome(facts["outcome"])
        return cls(facts=facts)

    @property
    def text(self) -> str:
        """As it is stored."""
        return json.dumps(self.facts)

    def job(self, job: Job) -> Job:
        """Return the job with which the hook runs: its event's facts are the confirmed ones."""
        changes = {name: value for name, value in self.facts.items() if name in FACTS}
        event = replace(job.event, verdict=replace(job.event.verdict, **changes))
        return replace(job, event=event, is_confirmed=True, confirmed_fields=tuple(self.facts))
