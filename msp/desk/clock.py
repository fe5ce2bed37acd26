"""The clocks of a stored ticket: recomputed from its log; what the ticket row holds is a cache for lists."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.contracts import sla, terms
from msp.contracts.models import ContractVersion
from msp.desk.models import Ticket, TicketEvent
