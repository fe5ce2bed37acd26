"""Routers and switches: their command line as a way in, and what a step may ask of it."""
