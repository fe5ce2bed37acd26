"""msp-toolkit: the contract runs the work."""

__version__ = "0.1.0"
