"""Who did what: replays, cancels, reveals, sign-ins."""

from premblyd.console.forms import Form, ways
from premblyd.console.handler import Handler
from premblyd.record import browsing


class Operators(Handler):
    """The log of operators, the newest first."""

    section = "/operators"

    async def get(self) -> None:
        form = Form(self.filters("before", "after"))
        part = await self.services.readers.run(
            lambda database: browsing.operator_actions(database, form.place())
        )
        view = {"operator_actions": part.rows, "newer": part.newer, "older": part.older}
        if self.wants_json:
            await self.send_json(view)
            return
        await self.send_page(
            "operators.html", form=form, ways=ways(form, part), is_cut=False, **view
        )
