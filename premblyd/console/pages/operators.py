"""Who did what: replays, cancels, reveals, sign-ins."""

from premblyd.console.pages.lists import ListPage
from premblyd.record.filters import OperatorFilter
from premblyd.record.queries import OperatorRow


class Operators(ListPage):
    """The log of operators, the newest first."""

    section = path = "/operators"
    kind, row = OperatorFilter, OperatorRow
    name, template = "operator_actions", "operators.html"
