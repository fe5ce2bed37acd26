"""The private Bacula of the planted-fault drill, which the tests of its engine use too."""

from msp.backup.drills.director import CLIENT, Bacula, missing, running

__all__ = ["CLIENT", "Bacula", "missing", "running"]
