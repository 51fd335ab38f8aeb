"""What is refused in a configuration because it can't be meant."""

from premblyd.features.tryout import conditions

EXPRESSION_CHECKS = (conditions.check,)
