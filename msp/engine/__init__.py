"""Durable work: the only room that imports the durable engine."""
