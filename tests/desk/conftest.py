"""A desk in a fresh database of each kind."""

import pytest
from reception import Desk, furnish

from msp.db import Database


@pytest.fixture
def desk(database: Database) -> Desk:
    return furnish(database)
