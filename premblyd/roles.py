"""What somebody who is signed in to the console may do."""

from enum import StrEnum


class Role(StrEnum):
    """Each may do what those before it may."""

    LOOK = "look"  # at every page, without personal data
    REVEAL = "reveal"  # personal data: each time it is on record
    OPERATE = "operate"  # replay, cancel, and all else that changes something

    def may(self, needed: "Role") -> bool:
        """Return whether this role is enough for what needs another."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)
