"""Backup plans, restore tests and proof."""
