"""What an alert says: as text for people, as JSON for programs, and as a hook's variables."""

import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from premblyd.config.hooks import CommandHook, Hook, ShellHook
from premblyd.config.models import Config, named
from premblyd.features.watch.settings import ALERTS, Alert, kinds
from premblyd.ground import jsontext, times
from premblyd.record.told import MARKS, Item
from premblyd.run.invocation import Invocation


def thing(item: Item) -> str:
    """Return the name under which a reported item is remembered: its kind, and what it is about."""
    return f"{item.kind} {item.subject}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An alert's message: the present items, of one kind or several, and what is `over` since the
    last message."""

    alert: Alert
    items: Sequence[Item]
    host: str
    at_ms: int
    over: Sequence[str] = ()
    is_test: bool = False

    @property
    def title(self) -> str:
        """One line, such as an e-mail's subject."""
        if self.is_test:
            return f"premblyd on {self.host}: a test of the alert {self.alert.name}"
        if not self.items:
            return f"premblyd on {self.host}: resolved: {self._resolved}"
        if len(self.items) == 1:
            return f"premblyd on {self.host}: {self.items[0].text}"
        return (
            f"premblyd on {self.host}: {len(self.items)} things need attention"
            f" ({', '.join(self.kinds)})"
        )

    @property
    def kinds(self) -> list[str]:
        """The kinds of trouble, the gravest first."""
        return list(dict.fromkeys(item.kind for item in self.items))

    @property
    def _resolved(self) -> str:
        """The ended problems in words: `dead (crm), disk`."""
        parts = (told.partition(" ") for told in self.over)
        return ", ".join(f"{kind} ({about})" if about else kind for kind, _, about in parts)

    @property
    def severity(self) -> str:
        """The highest severity of the items; `resolved` when there are none."""
        if not self.items:
            return "resolved"
        return max(item.severity for item in self.items).word

    def text(self) -> str:
        """Return all of it, with what to do about each thing."""
        lines = [f"premblyd on {self.host} needs attention."] if self.items else []
        if self.is_test:
            lines = [
                f"This is a test by `premblyd try --alert {self.alert.name}`: nothing is wrong.",
                "Such an alert would look like this:",
            ]
        for item in self.items:
            lines += ["", f"{MARKS[item.severity]} {item.text}", f"   {item.remedy}"]
            lines.append(f"   {item.command}")
        if self.over:
            lines += ["", f"Resolved: {self._resolved}."]
        if self.items:
            lines += ["", f"Not repeated within {self.alert.every}."]
        lines += ["`premblyd status` shows the current state."]
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Return all of it for programs. `text` is what chat systems show."""
        return {
            "alert": self.alert.name,
            "host": self.host,
            "at": times.iso(self.at_ms),
            "test": self.is_test,
            "severity": self.severity,
            "kinds": self.kinds,
            "resolved": [
                {"kind": kind, "about": about or None}
                for kind, _, about in (told.partition(" ") for told in self.over)
            ],
            "title": self.title,
            "text": self.text(),
            "attention": [item.as_json() for item in self.items],
        }

    def variables(self) -> Mapping[str, str]:
        """Return what a shell or command hook has in its environment."""
        return {
            "PREMBLYD_ALERT_NAME": self.alert.name,
            "PREMBLYD_ALERT_TITLE": self.title,
            "PREMBLYD_ALERT_SEVERITY": self.severity,
            "PREMBLYD_ALERT_KINDS": " ".join(self.kinds),
            "PREMBLYD_ALERT_COUNT": str(len(self.items)),
            "PREMBLYD_ALERT_RESOLVED": self._resolved,
            "PREMBLYD_ALERT_HOST": self.host,
            "PREMBLYD_ALERT_TEST": "true" if self.is_test else "false",
        }

    def invocation(self) -> Invocation:
        """Return how the alert's hook is run: with text on standard input, else with JSON."""
        is_text = isinstance(self.alert.hook, ShellHook | CommandHook)
        body = self.text().encode() if is_text else jsontext.dumps(self.as_json())
        name = f"{secrets.token_hex(16)}-{self.alert.name}"
        return Invocation(action=self.alert.name, id=name, body=body, environment=self.variables())


def example(alert: Alert, host: str, now_ms: int) -> Message:
    """Return a message that shows what the alert would say: a thing of each of its kinds."""
    items = [
        Item(
            kind=trigger.kind,
            text=f"An example: {kinds()[trigger.kind].partition(':')[0]}.",
            remedy="Nothing to do: this is a test.",
            command="premblyd status",
        )
        for trigger in alert.on
    ]
    return Message(alert=alert, items=items, host=host, at_ms=now_ms, is_test=True)


def tried(settings: Config, name: str, now_ms: int) -> tuple[Hook, Invocation]:
    """Return the hook of an alert, with a test message."""
    alert = named("alert", name, {each.name: each for each in ALERTS.of(settings)})
    return alert.hook, example(alert, socket.gethostname(), now_ms).invocation()


TRIED = (("alert", "Run this alert's hook, with a test message.", tried),)
