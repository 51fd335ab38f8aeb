"""What stands in the database for the name that a person has typed: itself, or its pseudonym where
names are sealed. A pseudonym may be typed too, as it is what a list has for who has no key."""

from premblyd.engines.engine import Database
from premblyd.hosts.naming import require_naming
from premblyd.verifications import pseudonyms
from premblyd.verifications.pseudonyms import Names


def names(database: Database) -> Names:
    """Return what turns names into what stands for them. Raise SealedNamesError when the key is not
    here, ConvertingError while some are in clear yet."""
    return database.look(pseudonyms.read)


def reference(database: Database, reference: str) -> str:
    """Return what stands for a reference. Raise as `names`."""
    if pseudonyms.is_pseudonym(reference):
        return reference
    return names(database).reference(reference)


def user(database: Database, user_ref: str) -> str:
    """Return what stands for a `user_ref`. Raise as `names`."""
    return user_ref if pseudonyms.is_pseudonym(user_ref) else names(database).user(user_ref)


def require_fit(database: Database) -> None:
    """Raise as a daemon does that can't start on this database because names are in clear there,
    and are to be sealed: else a hold by a pseudonym, say, would not hold. It costs nothing where
    they are to be in clear."""
    if database.vault is not None and database.vault.seals_names:
        require_naming(database)
