"""An exchange goes from phase to phase only as it may."""

import itertools
from typing import Any, cast

import pytest

from premblyd.receive.exchange import _NEXT_PHASES, Exchange, Phase
from tests.support.rows import for_each


def reachable(start: Phase) -> set[Phase]:
    """Return the phases that an exchange may come to from `start`."""
    found: set[Phase] = set()
    left = {start}
    while left:
        found |= left
        left = {phase for begun in left for phase in _NEXT_PHASES[begun]} - found
    return found


def test_every_phase_can_be_reached_and_none_is_left_for_ever() -> None:
    assert _NEXT_PHASES.keys() == reachable(Phase.WAITING) == set(Phase)
    for phase in Phase:
        assert Phase.ANSWERED in reachable(phase)
        assert phase not in {after for next_ in _NEXT_PHASES[phase] for after in reachable(next_)}


@for_each(("phase", "after"), list(itertools.product(Phase, Phase)))
def test_a_transition_that_there_is_not_raises(phase: Phase, after: Phase) -> None:
    exchange = Exchange(cast(Any, None), cast(Any, None), is_first=True)
    exchange._phase = phase
    if after in _NEXT_PHASES[phase]:
        exchange._enter(after)
        assert exchange._phase is after
    else:
        with pytest.raises(RuntimeError, match=f"from {phase} to {after}"):
            exchange._enter(after)
        assert exchange._phase is phase
