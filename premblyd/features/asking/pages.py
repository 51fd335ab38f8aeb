"""The page of days."""

from premblyd.features.asking import days
from premblyd.features.console.handler import Handler


class Days(Handler):
    """Whether each of the last days is complete, or why not."""

    section = "/days"

    async def get(self) -> None:
        self.filters()
        await self.show("days.html", {"days": await self.read(days.days)})


PAGES = ((r"/days(?:\.json)?", Days),)
LINKS = (("/days", "Days"),)
