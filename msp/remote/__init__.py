"""Playbooks, transports and runs."""
