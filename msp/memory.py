"""The garbage collector of a process at work: it looks at what is new, not again and again at the whole program."""

import gc


def settle() -> None:
    """Take all there is for what stays, and look for cycles more rarely from now on.

    Call it when the modules are read. Connections and rows make many objects that live for moments, and few cycles: at
    CPython's own thresholds a fleet spent a fifth of its time on looking through the modules of the program.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 50)
