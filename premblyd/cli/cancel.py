"""premblyd cancel"""

from pathlib import Path

import click

from premblyd.cli.common import RowId, actor, config_option, until_end
from premblyd.errors import PremblydError


@click.command()
@click.option("--delivery", "delivery_id", type=RowId(), required=True, help="Stop this delivery.")
@config_option
def cancel(config_path: Path, delivery_id: int) -> None:
    """A delivery whose hook runs now can't be cancelled; `replay` puts a cancelled one back.

    A dead one that nobody will mend can be cancelled too: then `status` tells of it no more, and
    those behind it (`order`, with `then: wait`) go on.
    """
    from premblyd.cli.database import database_of
    from premblyd.engines.connections import connect_operator, now_ms, transact
    from premblyd.record import replays
    from premblyd.record.operating import ONLY_SOME, Operator

    database = until_end(connect_operator(database_of(config_path)))
    if transact(database, Operator(actor=actor()).cancel(delivery_id, now_ms(database))):
        click.echo(f"Cancelled delivery {delivery_id}.")
        return
    found = replays.find_delivery(database, delivery_id)
    raise PremblydError(f"Delivery {delivery_id} is {found.state}; {ONLY_SOME}.")
