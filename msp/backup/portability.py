"""Names that the target system cannot hold. Pure; one pass over paths in order, with the memory of one folder."""

import re
from dataclasses import dataclass, field

from msp.backup.compare import Tally
from msp.backup.manifest import shown
from msp.backup.verdict import Finding, Weight

RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?$", re.IGNORECASE)
FORBIDDEN = re.compile(r'[<>:"|?*\\\x01-\x1f]')


@dataclass(slots=True)
class Portability:
    """Collects names that collide or are refused on `target`: windows (or macos: collisions alone)."""

    target: str
    collisions: Tally = field(default_factory=Tally)
    refused: Tally = field(default_factory=Tally)
    _folders: list[tuple[bytes, dict[str, bytes]]] = field(default_factory=list)  # open folders, outermost first

    def observe(self, path: bytes) -> None:
        """Take one path; paths come in the order of a walk."""
        folder, _, name = path.rpartition(b"/")
        while self._folders and not (
            folder == self._folders[-1][0] or folder.startswith(self._folders[-1][0] + b"/") or not self._folders[-1][0]
        ):
            self._folders.pop()
        if not self._folders or self._folders[-1][0] != folder:
            self._folders.append((folder, {}))
        word = name.decode("utf-8", "surrogateescape")
        seen = self._folders[-1][1].setdefault(word.casefold(), name)
        if seen != name:
            self.collisions.add(f"{shown(path)} and {shown(seen)}")
        if self.target == "windows" and (RESERVED.match(word) or FORBIDDEN.search(word) or word[-1:] in (".", " ")):
            self.refused.add(shown(path))

    def findings(self) -> list[Finding]:
        found = []
        if self.collisions.count:
            found.append(
                Finding(
                    "portability",
                    f"{self.collisions.count} names differ from another only in case, so {self.target} keeps one.",
                    "; ".join(self.collisions.named),
                    "Rename one of each pair on the source, or restore to a case-sensitive folder.",
                    Weight.WARN,
                )
            )
        if self.refused.count:
            found.append(
                Finding(
                    "portability",
                    f"{self.refused.count} names are reserved or refused on {self.target}.",
                    "; ".join(self.refused.named),
                    "Rename them on the source, or plan the names for the restore.",
                    Weight.WARN,
                )
            )
        return found
