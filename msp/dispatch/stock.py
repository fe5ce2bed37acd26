"""Spare parts along a technician's week: what each depot stop must hand out so that no van runs below zero. Pure.

A depot stop's take is never stored as a decision: it is the least that the visits after it need, charged to the
latest depot stop before the shortage that still has the part.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msp.dispatch.network import Network

if TYPE_CHECKING:
    from msp.dispatch.solution import Solution

Charge = dict[tuple[int, str], int]


class Allotment:
    """takes: (lane, position) of each depot stop -> part -> quantity; charged: the same summed by depot and part.

    spare: what is left in the van at the end, if no depot is visited on the way (then it suffices to look there);
    else None.
    """

    __slots__ = ("charged", "spare", "takes")

    def __init__(
        self, takes: dict[tuple[int, int], dict[str, int]], charged: Charge, spare: dict[str, int] | None = None
    ) -> None:
        self.takes, self.charged, self.spare = takes, charged, spare


def allot(solution: "Solution", who: int, changes: Mapping[int, list[int]]) -> Allotment | None:
    """Return the takes of technician `who` with some lanes' stops replaced, or None if parts would run out."""
    net = solution.net
    balance = dict(net.problem.technicians[who].stock)
    depots: list[tuple[tuple[int, int], int]] = []
    takes: dict[tuple[int, int], dict[str, int]] = {}
    charged: Charge = {}
    own = solution.allotted[who].charged
    left, first, visit_of = solution.left, net.first_depot, net.visit
    for lane in net.lanes_of[who]:
        for kind, node, _, goods in net.past[lane].stops:
            if kind == "depot":
                for part, quantity in (goods or {}).items():
                    balance[part] = balance.get(part, 0) + quantity
            elif kind == "visit":
                for part, quantity in past_uses(net, node, goods).items():
                    balance[part] = balance.get(part, 0) - quantity
                    if balance[part] < 0:
                        return None
        seq = changes[lane] if lane in changes else solution.lanes[lane].seq
        for at, node in enumerate(seq):
            if node >= first:
                depots.append(((lane, at), node - first))
                takes[lane, at] = {}
                continue
            uses = solution.uses(visit_of[node], lane)
            for part, quantity in uses.items():
                rest = balance.get(part, 0) - quantity
                if rest < 0:
                    need = -rest
                    for place, depot in reversed(depots):
                        slot = (depot, part)
                        there = left.get(slot, 0) + own.get(slot, 0) - charged.get(slot, 0)
                        if there > 0:
                            some = min(there, need)
                            charged[slot] = charged.get(slot, 0) + some
                            takes[place][part] = takes[place].get(part, 0) + some
                            need -= some
                            if not need:
                                break
                    if need:
                        return None
                    rest = 0
                balance[part] = rest
    return Allotment(takes, charged, None if takes else balance)


def past_uses(net: Network, visit: int, goods: Mapping[str, int] | None) -> Mapping[str, int]:
    """Return what a frozen visit stop consumes: what it says, else all parts for one and nothing for a crew of two."""
    if goods is not None:
        return goods
    return net.parts[visit] if net.problem.visits[visit].crew == 1 else {}
