"""Technicians, visits, parts and routes."""
