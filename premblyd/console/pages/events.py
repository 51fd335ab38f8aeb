"""The list of events."""

from premblyd.console.pages.lists import ListPage
from premblyd.record.filters import EventFilter
from premblyd.record.queries import EventRow


class Events(ListPage):
    """Events, the newest first, chosen by a form."""

    section = path = "/events"
    kind, row = EventFilter, EventRow
    name, template = "events", "events.html"
