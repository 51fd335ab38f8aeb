"""What counting does on the way of a webhook."""

from premblyd.features.statistics import rollups
from premblyd.queue.hooks import Hooks

HOOKS = (Hooks(arrived=rollups.count, prove=rollups.count_none),)
