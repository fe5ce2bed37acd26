"""What a contract line covers: which services, sites and assets, who works and how. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from msp.contracts.fields import Fields

WORK = ("remote", "onsite")
KEYS = ("services", "roles", "sites", "assets", "asset_classes", "work")


@dataclass(frozen=True, slots=True)
class Asset:
    """A configuration item as contract rules see it. `kind` is its asset class: server, workstation, network, ..."""

    name: str
    kind: str
    site: str | None = None


@dataclass(frozen=True, slots=True)
class Covers:
    """Sets of names; an empty one is no limit. A thing is inside if it is in every set that is not empty."""

    services: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    sites: frozenset[str] = frozenset()
    assets: frozenset[str] = frozenset()
    asset_classes: frozenset[str] = frozenset()
    work: frozenset[str] = frozenset()  # "remote", "onsite"

    def holds(self, facts: "Facts") -> bool:
        """Return whether such work is inside. What is not known limits nothing."""
        return all(known is None or known in names for known, names in self._pairs(facts))

    def denies(self, facts: "Facts") -> bool:
        """Return whether these sets, as a deny-list, name such work: each must name its fact; an empty list none."""
        pairs = self._pairs(facts)
        return bool(pairs) and all(known in names for known, names in pairs)

    def _pairs(self, facts: "Facts") -> list[tuple[str | None, frozenset[str]]]:
        pairs = (
            (facts.service, self.services),
            (facts.role, self.roles),
            (facts.site, self.sites),
            (facts.asset, self.assets),
            (facts.asset_class, self.asset_classes),
            (facts.work, self.work),
        )
        return [pair for pair in pairs if pair[1]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of some work: names, None where unknown. work: "remote" or "onsite"."""

    service: str | None = None
    role: str | None = None
    site: str | None = None
    asset: str | None = None
    asset_class: str | None = None
    work: str | None = None


def parse_covers(fields: Fields | None) -> Covers:
    """Return the sets of a covers object; None covers everything."""
    if fields is None:
        return Covers()
    return Covers(**{key: frozenset(fields.texts(key, WORK if key == "work" else ())) for key in KEYS})


def asset_covered(asset: Asset, lines: Iterable[tuple[Covers, Covers | None]]) -> bool:
    """Return whether any line covers the asset. A line is (covers, excludes); what it excludes it does not cover.

    An asset without a site stands in none of the sites that a line lists.
    """
    facts = Facts(site=asset.site, asset=asset.name, asset_class=asset.kind)
    return any(
        covers.holds(facts)
        and not (covers.sites and asset.site is None)
        and not (excludes is not None and excludes.denies(facts))
        for covers, excludes in lines
    )
