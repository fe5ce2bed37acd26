"""Read asyncssh without the parts that are never used here: a command that starts cold must not pay for them.

Left out are GSSAPI, X.509, PKCS#11 and FIDO2, and the search for liboqs, which starts ldconfig. Host keys,
certificates, ciphers and key exchanges are the same.
"""

import ctypes.util
import importlib
import sys

UNUSED = ("gssapi", "OpenSSL", "pkcs11", "fido2")


def load() -> None:
    """Import asyncssh, if nobody has yet. Call it before other threads are started."""
    if "asyncssh" in sys.modules:
        return
    absent = [name for name in UNUSED if name not in sys.modules]
    find_library = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # its import fails, as if it were not installed
    try:
        importlib.import_module("asyncssh")
    finally:
        ctypes.util.find_library = find_library
        for name in absent:
            del sys.modules[name]
