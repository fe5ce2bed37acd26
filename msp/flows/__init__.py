"""The closed loop: the only code that joins rooms."""
