"""Tickets, support lines and knowledge."""
