"""Whether a daemon may work on a record by how names are kept there: in clear, or sealed. Looked at
before anything is changed, and again in the transaction in which it joins the others. In that the
first daemon with `identity: sealed` has names sealed from then on, where there is none yet."""

from collections.abc import Collection

from premblyd.engines.engine import Database, Statement, Transaction, param
from premblyd.errors import CannotStartError, TryAgainError
from premblyd.model import tables
from premblyd.model.keeptables import Closing, DigestKey, GoneOnce, Hold, Naming
from premblyd.seal.starting import require_keys
from premblyd.verifications import pseudonyms
from premblyd.verifications.digests import seal_key
from premblyd.verifications.pseudonyms import ConvertingError


class NamesInClearError(CannotStartError):
    """The database has names in clear, and `identity: sealed` wants none. Run the command."""

    def __init__(self) -> None:
        super().__init__(
            "The database has references and user_refs in clear, and `encryption: {identity:"
            " sealed}` wants them sealed: stop all daemons and run `premblyd rekey --names`. (Or"
            " take `identity` out.) Nothing was changed."
        )


class NamesAreSealedError(CannotStartError):
    """The database has its names sealed, and the configuration does not say so."""

    def __init__(self) -> None:
        super().__init__(
            "References and user_refs are sealed in this database, and the configuration does not"
            " say `encryption: {identity: sealed}`: a daemon without that would store them in"
            " clear. Put it back. Nothing was changed."
        )


class HostsInClearError(TryAgainError):
    """Daemons work on the database that would store names in clear. Stop them first."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(
            f"The daemon on {', '.join(sorted(names))} works without `encryption: {{identity:"
            " sealed}`: stop it, and give it that too; then again."
        )


def require_sealed_so(database: Database) -> None:
    """Raise CannotStartError or ConvertingError when a daemon can't work on this record because of
    how it is sealed. It only reads, also a database of an earlier version."""
    require_keys(database)
    require_naming(database)


def require_naming(database: Database) -> None:
    """The same of how names are kept alone."""
    found = database.get_columns(DigestKey._meta.table_name)
    if any(column.name == DigestKey.names.column_name for column in found):
        database.look(may_work)


def may_work(transaction: Transaction) -> Naming | None:
    """Return how names are kept. Raise as `require_naming`."""
    naming = pseudonyms.naming(transaction)
    seals_names = transaction.vault is not None and transaction.vault.seals_names
    if naming is Naming.CONVERTING:
        raise ConvertingError
    if naming is not None and not seals_names:
        raise NamesAreSealedError
    if naming is None and seals_names and has_names(transaction):
        raise NamesInClearError
    return naming


def begin(transaction: Transaction, others: Collection[str] = ()) -> bool:
    """Have names sealed from now on if they are to be, where there are none yet; return whether
    that is new. Raise as `require_naming`, or HostsInClearError where `others` work already."""
    naming = may_work(transaction)
    if naming is not None or transaction.vault is None or not transaction.vault.seals_names:
        return False
    if others:
        raise HostsInClearError(others)
    seal_key(transaction)  # else who has the database could try names
    put_down(transaction, Naming.SEALED)
    return True


def put_down(transaction: Transaction, naming: Naming) -> None:
    """Write down how names are kept from now on."""
    transaction.change(_PUT_DOWN, names=naming)
    if transaction.vault is not None:
        transaction.vault.names = None  # to be read anew


def has_names(transaction: Transaction) -> bool:
    """Return whether there is anything that may have a name."""
    return any(transaction.row(statement) is not None for statement in _ANY)


_PUT_DOWN = Statement(DigestKey.update(names=param("names")))
_ANY = [
    Statement(table.select(table.id).limit(1))
    for table in (
        tables.Event,
        tables.Inquiry,
        tables.Awaited,
        tables.VerificationName,
        Hold,
        Closing,
        GoneOnce,  # has digests of names
    )
]
