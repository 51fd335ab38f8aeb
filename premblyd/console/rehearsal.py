"""Rehearsing another choice of an action's events on the events that came last.

Here only `types`, `response_codes` and `when` are typed, and put in the place of the action's own.
A whole configuration, which names files of secrets and programs, is for the command. Nothing of it
is kept but who rehearsed an action, and what an expression may do is bounded.
"""

import functools
import re
from typing import Any

from premblyd import privacy, times
from premblyd.config.models import Action, Config
from premblyd.config.selection import Selection, reselected
from premblyd.console.handler import Handler
from premblyd.engines.engine import Database
from premblyd.errors import NotFoundError, PremblydError
from premblyd.privacy import Shape
from premblyd.record.operating import Operator
from premblyd.record.rehearsing import reading
from premblyd.record.rehearsing.figures import Figures
from premblyd.record.rehearsing.rehearsal import rehearse
from premblyd.roles import Role

MOST_EVENTS = (500, 2000, 5000)  # 2,000 take half a second, in which others look too
SINCE_MS = 30 * times.DAY_MS
MOST_CHARS = 10_000


class Rehearsal(Handler):
    """The form, with the choice that is configured. What matches says what stands in a body."""

    section = "/actions"
    reading = Role.OPERATE

    async def get(self, name: str) -> None:
        selection = Selection.of(self._action(name))
        await self._show(name, _typed(selection))

    def _action(self, name: str) -> Action:
        for action in self.services.config.actions:
            if action.name == name:
                return action
        raise NotFoundError(f"There is no action {name} in the configuration.")

    async def _show(
        self,
        name: str,
        typed: dict[str, str],
        *,
        found: dict[str, Any] | None = None,
        mistake: str | None = None,
    ) -> None:
        view = {"action": name, "typed": typed, "found": found, "mistake": mistake}
        await self.show("rehearsal.html", view, choices=MOST_EVENTS)


class Rehearse(Rehearsal):
    """What another choice would have done."""

    async def get(self, name: str) -> None:
        self.redirect(f"/actions/{name}/rehearsal", status=303)

    async def post(self, name: str) -> None:
        config, now_ms = self.services.config, self.now_ms
        own = self._action(name)
        typed = {
            each: self.get_body_argument(each, "")[:MOST_CHARS]
            for each in ("types", "response_codes", "when", "most")
        }
        asked = typed["most"][:9]  # Python reads no number of thousands of digits
        most = min(int(asked) if asked.isdecimal() else MOST_EVENTS[1], MOST_EVENTS[-1])
        try:
            selection = Selection.read(
                _words(typed["types"]), _words(typed["response_codes"]), typed["when"]
            )
        except PremblydError as error:
            self.set_status(400)
            await self._show(name, typed, mistake=str(error))
            return
        new = reselected(config, own.name, selection)
        on_record = Operator(actor=self.actor).many(own.name, now_ms, "rehearse")
        await self.services.writer.call(on_record)
        play = functools.partial(_play, name, config, new, now_ms - SINCE_MS, most)
        await self._show(name, typed | {"most": str(most)}, found=await self.read(play))


def _play(
    name: str, present: Config, new: Config, since_ms: int, most: int, database: Database
) -> dict[str, Any]:
    figures = Figures()
    for event in rehearse(database, new, present, reading.span(database, since_ms, most=most)):
        figures.add(event)
    found = figures.as_json()
    # Others too, as a code that this one names is no `default` of theirs; but not those in which
    # the record alone differs from the present configuration.
    shown = [
        _masked(each)
        for each in found["figures"]
        if each["action"] == name or each["so_now"] < each["count"]
    ]
    names = {name, *(each["action"] for each in shown)}
    return {
        "events": found["events"],
        "differing": len({number for each in shown for number in each["events"]}),
        "actions": [each for each in found["actions"] if each["action"] in names],
        "figures": shown,
    }


def _masked(figure: dict[str, Any]) -> dict[str, Any]:
    """Return a figure with what a sender wrote in the place of a type or a code masked."""
    shown = dict(figure)
    for name, shape in (("type", Shape.TYPE), ("response_code", Shape.CODE)):
        masked = privacy.mask(figure[name], shape)
        if masked != figure[name]:
            shown["why"] = shown["why"].replace(str(figure[name]), str(masked))
            shown[name] = masked
    return shown


def _typed(selection: Selection) -> dict[str, str]:
    return {
        "types": ", ".join(selection.types),
        "response_codes": ", ".join(selection.response_codes),
        "when": selection.when.text if selection.when else "",
        "most": str(MOST_EVENTS[1]),
    }


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]
