"""A unit of work is one block's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lib.onetrip.errors import UsageError
from lib.onetrip.session.session import async_reading, async_transaction, reading, transaction

if TYPE_CHECKING:
    from lib.onetrip.pool.database import Database


@pytest.mark.parametrize("unit", [transaction, reading])
def test_a_unit_of_work_is_for_one_block(database: Database, unit: Any) -> None:
    """A second block would take the first one's session, and lose what it has written."""
    kept = unit(database)
    with kept, pytest.raises(UsageError, match="anew"), kept:
        pass


@pytest.mark.anyio
@pytest.mark.parametrize("unit", [async_transaction, async_reading])
async def test_an_async_unit_of_work_is_for_one_block(database: Database, unit: Any) -> None:
    """The same of the async ones."""
    kept = unit(database)
    async with kept:
        with pytest.raises(UsageError, match="anew"):
            async with kept:
                pass
