"""The msp command, one module a room. Commands are listed in msp/console.py."""
