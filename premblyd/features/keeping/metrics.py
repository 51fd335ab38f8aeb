"""The metrics of what is kept and what has gone."""

from collections.abc import Iterator

from premblyd.features.keeping import keepstatus
from premblyd.record.families import Family
from premblyd.record.troubles.trouble import Situation


def of_keeping(situation: Situation) -> Iterator[Family]:
    """Yield how much is held, and was erased."""
    kept = keepstatus.at_a_glance(situation.database, situation.settings, situation.now_ms)
    yield Family("premblyd_holds", "Holds that are in force.", kept.holds)
    yield Family("premblyd_erasures", "Erasures at request.", kept.erasures, is_counter=True)


FAMILIES = (of_keeping,)
