"""Clients, contracts, clocks, clauses and prices."""
