"""What else is hit when an item fails: reachability along typed relationships. Pure: no database."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

#: kind -> whether a failure of the target takes the source down ("hard") or only weakens it ("soft").
KINDS: dict[str, str] = {
    "runs_on": "hard",
    "depends_on": "hard",
    "stored_on": "hard",
    "connects_through": "hard",
    "backed_up_by": "soft",
    "monitored_by": "soft",
    "member_of": "soft",  # one node of a cluster
}


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` needs `target` in the way that `kind` says."""

    source: int
    target: int
    kind: str


@dataclass(frozen=True, slots=True)
class Hit:
    """An item that is hit: how badly, how far away, and the path by which it is reached."""

    item: int
    strength: str  # "hard" or "soft"
    path: tuple[Edge, ...]


def impact_of(failed: int, edges: Iterable[Edge]) -> list[Hit]:
    """Return every item hit by the failure of `failed`, nearest first, each once with its strongest shortest path.

    A path is as strong as its weakest edge; a soft hit does not travel on. Cycles are fine.
    """
    needed_by: dict[int, list[Edge]] = {}
    for edge in edges:
        needed_by.setdefault(edge.target, []).append(edge)
    hits: dict[int, Hit] = {}
    queue: deque[tuple[int, tuple[Edge, ...]]] = deque([(failed, ())])
    while queue:
        item, path = queue.popleft()
        for edge in needed_by.get(item, []):
            strength = KINDS.get(edge.kind, "soft")
            known = hits.get(edge.source)
            if edge.source == failed or (known and (known.strength == "hard" or strength == "soft")):
                continue
            hits[edge.source] = Hit(edge.source, strength, (*path, edge))
            if strength == "hard":
                queue.append((edge.source, hits[edge.source].path))
    return sorted(hits.values(), key=lambda hit: (hit.strength != "hard", len(hit.path), hit.item))
