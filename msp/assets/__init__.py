"""Configuration items, their relationships and impact."""
