"""Paused actions are at rest."""

from premblyd.features.pause import wording

AT_REST = (wording.in_force,)
IN_WORDS = (wording.sentences,)
