"""What a contract line covers: which services, sites and assets, who works and how. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

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

    def holds(
        self,
        *,
        service: str | None = None,
        role: str | None = None,
        site: str | None = None,
        asset: Asset | None = None,
        work: str | None = None,
    ) -> bool:
        """Return whether work on these is inside. What is not known (None) limits nothing."""
        return (
            _inside(service, self.services)
            and _inside(role, self.roles)
            and _inside(site or (asset.site if asset else None), self.sites)
            and _inside(asset.name if asset else None, self.assets)
            and _inside(asset.kind if asset else None, self.asset_classes)
            and _inside(work, self.work)
        )

    def denies(self, **facts: Any) -> bool:
        """Return whether these sets, as a deny-list, name the work; an empty deny-list names nothing.

        A fact that is not known is not denied by it: every set that is not empty must name its fact.
        """
        asset: Asset | None = facts.get("asset")
        known = {
            "services": facts.get("service"),
            "roles": facts.get("role"),
            "sites": facts.get("site") or (asset.site if asset else None),
            "assets": asset.name if asset else None,
            "asset_classes": asset.kind if asset else None,
            "work": facts.get("work"),
        }
        named = [known[key] in getattr(self, key) for key in KEYS if getattr(self, key)]
        return bool(named) and all(named)

    def holds_asset(self, asset: Asset) -> bool:
        """Return whether the asset is covered; one without a site is in none of the sites listed."""
        return not (self.sites and asset.site is None) and self.holds(asset=asset)


def parse_covers(fields: Fields | None) -> Covers:
    """Return the sets of a covers object; None covers everything."""
    if fields is None:
        return Covers()
    return Covers(**{key: frozenset(fields.texts(key, WORK if key == "work" else ())) for key in KEYS})


def asset_covered(asset: Asset, lines: Iterable[tuple[Covers, Covers | None]]) -> bool:
    """Return whether any line covers the asset. A line is (covers, excludes); what it excludes it does not cover."""
    return any(
        covers.holds_asset(asset) and not (excludes is not None and excludes.denies(asset=asset))
        for covers, excludes in lines
    )


def _inside(value: str | None, names: Collection[str]) -> bool:
    return value is None or not names or value in names
