"""An account of this machine for a test, with a password and a rule for sudo, gone afterwards. Needs root."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Account:
    name: str
    password: str
    home: Path


def missing() -> str:
    """Return why no account can be made here, or nothing."""
    if os.geteuid() != 0 or not shutil.which("useradd") or not shutil.which("sudo"):
        return "needs root and useradd, and sudo"
    return ""


@contextmanager
def open_folder() -> Iterator[Path]:
    """Yield a folder that every account can reach; those of pytest are for one account only."""
    folder = Path(tempfile.mkdtemp(prefix="msp-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def account(folder: Path, *, sudo: str = "", path: str = "") -> Iterator[Account]:
    """Make an account. sudo: the end of its rule, such as `(ALL) ALL`; empty for none. path: PATH under sudo.

    The password has what is awkward in shells: quotes, a dollar sign, spaces.
    """
    name = f"msp{secrets.token_hex(4)}"
    password = f'p\'w "$HOME" {secrets.token_hex(4)}'
    home = folder / name
    subprocess.run(["useradd", "-m", "-d", str(home), "-s", "/bin/sh", name], check=True, capture_output=True)
    rule = Path("/etc/sudoers.d") / name
    try:
        subprocess.run(["chpasswd"], input=f"{name}:{password}\n".encode(), check=True)
        if sudo:
            rule.write_text(f"{name} ALL={sudo}\n" + (f"Defaults:{name} secure_path={path}\n" if path else ""))
            rule.chmod(0o440)
        yield Account(name, password, home)
    finally:
        rule.unlink(missing_ok=True)
        subprocess.run(["userdel", "-f", name], check=False, capture_output=True)
