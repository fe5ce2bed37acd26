"""The web's transactions: one a request, opened by the view, committed once, at its end."""

from msp.db import begin as unit_of_work
from msp.db import read as read_only

__all__ = ["read_only", "unit_of_work"]
