"""The closed loop on this machine, with real hosts."""
