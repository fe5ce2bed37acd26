"""What the contract says of a remote action: allow, ask somebody, or refuse, with the clause and the way out. Pure.

Clauses stand in order and the first that matches decides. A clause matches by class of action, class and name of
the asset, and site; an empty list is no limit. Then, in this order:

1. a freeze named by the clause refuses, inside its window or not;
2. a clause with windows holds inside them; outside, `outside` decides, and without it the next clause is asked;
3. `effect` decides.

What no clause mentions is refused. So is everything before a contract begins, after it ends, and on an asset that
no line covers; these two nobody can override, because there is no contract to override.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from msp.contracts.covers import Asset, Covers, asset_covered
from msp.contracts.fields import Fields, parse_zone
from msp.contracts.windows import (
    Freeze,
    Window,
    freeze_at,
    next_outside,
    next_start,
    parse_freeze,
    parse_window,
    window_at,
)
from msp.errors import Misconfigured

ACTION_CLASSES = ("read", "change", "disruptive", "access")
ALLOW, ASK, REFUSE = EFFECTS = ("allow", "ask", "refuse")
#: How long an approval is good for unless its clause says otherwise.
EXPIRES_S = 86_400
#: What a clause that admits to a console admits to: only looking at it, or working in it.
MODES = ("view", "full")
KEYS = frozenset(
    {"id", "text", "text_ru", "action_classes", "asset_classes", "assets", "sites", "effect", "outside", "windows"}
    | {"freezes", "zone", "approver", "price", "consent", "mode", "expires_s"}
)


@dataclass(frozen=True, slots=True)
class Clause:
    """One numbered sentence of the contract. `zone` None: the client's. `price` in the contract's currency."""

    id: str
    text: str
    effect: str
    text_ru: str = ""
    action_classes: frozenset[str] = frozenset()
    asset_classes: frozenset[str] = frozenset()
    assets: frozenset[str] = frozenset()
    sites: frozenset[str] = frozenset()
    windows: tuple[Window, ...] = ()
    outside: str | None = None  # an effect, or None: the next clause is asked
    freezes: tuple[Freeze, ...] = ()
    zone: ZoneInfo | None = None
    approver: str = "client_approver"  # a role, or a rule for finding the contact
    price: Decimal | None = None
    consent: bool = False  # the person at the machine is asked as well
    mode: str = "full"  # of a console: view or full
    expires_s: int = EXPIRES_S

    def matches(self, action_class: str, asset: Asset) -> bool:
        """Return whether the clause speaks of this action on this asset, whatever the time."""
        return (
            (not self.action_classes or action_class in self.action_classes)
            and (not self.asset_classes or asset.kind in self.asset_classes)
            and (not self.assets or asset.name in self.assets)
            and (not self.sites or asset.site in self.sites)
        )


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """Somebody answers with their name for doing what the contract refuses, and says why."""

    approver: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What may be done, on whose word, and otherwise what to do instead.

    rule: clause, outside_window, freeze, no_clause, not_covered, not_in_force or break_glass.
    next_at: the next instant at which it would not be refused, if known. ends_at: end of the window now open.
    overrides: the refusal that `break_glass` set aside.
    """

    effect: str
    rule: str
    clause_id: str | None
    text: str
    text_ru: str
    way_out: str = ""
    way_out_ru: str = ""
    approver: str | None = None
    price: Decimal | None = None
    consent: bool = False
    mode: str = "full"
    expires_s: int | None = None
    next_at: datetime | None = None
    ends_at: datetime | None = None
    break_glass: BreakGlass | None = None
    overrides: "Decision | None" = None


def decide(
    clauses: Sequence[Clause],
    *,
    action_class: str,
    asset: Asset,
    at: datetime,
    zone: ZoneInfo,
    actor: str = "",
    in_force: tuple[datetime, datetime | None] | None = None,
    lines: Sequence[tuple[Covers, Covers | None]] = (),
    break_glass: BreakGlass | None = None,
) -> Decision:
    """Return what the clauses say of an action of `action_class` on `asset` at an aware instant.

    zone: the client's. actor: who wants to act; nobody breaks the glass for themselves.
    in_force: when the contract begins and just ended (None: open). lines: (covers, excludes) of its lines; none at
    all covers everything. break_glass: turns a refusal by clause into allow, recorded in the decision.
    Raises Misconfigured for an unknown class of action, or a break-glass without a name or a reason.
    """
    if action_class not in ACTION_CLASSES:
        raise Misconfigured(
            f"{action_class!r} is no class of action.", advice=f"Use one of {', '.join(ACTION_CLASSES)}."
        )
    if in_force and not (in_force[0] <= at and (in_force[1] is None or at < in_force[1])):
        return _not_in_force(at, in_force, zone)
    if lines and not asset_covered(asset, lines):
        return _not_covered(asset)
    decision = _by_clauses(clauses, action_class, asset, at, zone)
    if break_glass and decision.effect == REFUSE:
        return _broken(decision, break_glass, actor)
    return decision


def _by_clauses(clauses: Iterable[Clause], action_class: str, asset: Asset, at: datetime, zone: ZoneInfo) -> Decision:
    later: Clause | None = None  # the first clause that would not refuse, were its window open
    decision = _no_clause(action_class, asset)
    for clause in clauses:
        if not clause.matches(action_class, asset):
            continue
        local = clause.zone or zone
        freeze = freeze_at(clause.freezes, at, local)
        if freeze and (clause.effect != REFUSE or clause.outside not in (None, REFUSE)):
            return _refused_until(clause, "freeze", at, local, freeze)
        span = window_at(clause.windows, at, local)
        if clause.windows and span is None:
            if clause.outside is None:
                later = later or (clause if clause.effect != REFUSE else None)
                continue
            if clause.outside == REFUSE:
                return _refused_until(clause, "outside_window", at, local)
        effect = clause.outside if clause.windows and span is None and clause.outside else clause.effect
        decision = _by_clause(clause, effect, span[1] if span else None)
        break
    if later and decision.effect == REFUSE:
        hint = _refused_until(later, "outside_window", at, later.zone or zone)
        if decision.rule == "no_clause":
            return hint
        return replace(decision, way_out=hint.way_out, way_out_ru=hint.way_out_ru, next_at=hint.next_at)
    return decision


def approval_digest(playbook_digest: str, parameters: Mapping[str, Any], hosts: Iterable[str]) -> str:
    """Return the SHA-256 over exactly what somebody approves: playbook, parameters, and hosts in any order.

    Raises Misconfigured for parameters that are no JSON values.
    """
    what = {"hosts": sorted(set(hosts)), "parameters": dict(parameters), "playbook": playbook_digest}
    try:
        text = json.dumps(what, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Misconfigured(f"The parameters cannot be approved: {error}.", advice="Use plain JSON values.") from error
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def approval_expired(approved_at: datetime, expires_s: int, now: datetime) -> bool:
    """Return whether an approval is too old; exactly at its end it still holds."""
    return now > approved_at + timedelta(seconds=expires_s)


def approval_void(
    approved_digest: str, playbook_digest: str, parameters: Mapping[str, Any], hosts: Iterable[str]
) -> bool:
    """Return whether what is about to run is not what was approved."""
    return approved_digest != approval_digest(playbook_digest, parameters, hosts)


def parse_clause(fields: Fields, freezes: Mapping[str, Freeze]) -> Clause:
    """Return a clause; its freezes are objects of their own, or names of the contract's `freezes`."""
    found = []
    for number, item in enumerate(fields.items("freezes", ()), 1):
        if isinstance(item, str):
            if item not in freezes:
                raise Misconfigured(f"{fields.name('freezes')} names {item!r}, which the contract does not define.")
            found.append(freezes[item])
        else:
            found.append(parse_freeze(Fields(item, f"{fields.name('freezes')} {number}", ("name", "from", "to"))))
    clause = Clause(
        id=fields.text("id"),
        text=fields.text("text"),
        text_ru=fields.text("text_ru", ""),
        effect=fields.choice("effect", EFFECTS),
        action_classes=frozenset(fields.texts("action_classes", ACTION_CLASSES)),
        asset_classes=frozenset(fields.texts("asset_classes")),
        assets=frozenset(fields.texts("assets")),
        sites=frozenset(fields.texts("sites")),
        windows=tuple(parse_window(window) for window in fields.objects("windows", ("days", "from", "to"))),
        outside=fields.choice("outside", EFFECTS, None),
        freezes=tuple(found),
        zone=parse_zone(fields.value["zone"], fields.name("zone")) if "zone" in fields else None,
        approver=fields.text("approver", "client_approver"),
        price=fields.decimal("price", None),
        consent=fields.flag("consent"),
        mode=fields.choice("mode", MODES, "full"),
        expires_s=fields.whole("expires_s", EXPIRES_S, least=1, most=366 * 86_400),
    )
    if clause.outside and not clause.windows:
        raise Misconfigured(f"{fields.name('outside')} says nothing without windows.", advice="Add windows or drop it.")
    return clause


_WHO_RU = {"client_approver": "согласующий клиента", "account_manager": "менеджер клиента"}


def _by_clause(clause: Clause, effect: str, ends_at: datetime | None) -> Decision:
    decision = Decision(
        effect,
        "clause",
        clause.id,
        clause.text,
        clause.text_ru or clause.text,
        price=clause.price,
        consent=clause.consent,
        mode=clause.mode,
        ends_at=ends_at,
    )
    if effect == ASK:
        hours = f"{clause.expires_s / 3600:g}"
        who_ru = _WHO_RU.get(clause.approver, clause.approver)
        return replace(
            decision,
            approver=clause.approver,
            expires_s=clause.expires_s,
            way_out=f"Ask {clause.approver}; a yes is good for {hours} h.",
            way_out_ru=f"Запросите согласование: {who_ru}; оно действует {hours} ч.",
        )
    if effect == REFUSE:
        return replace(decision, price=None, way_out=_AMENDMENT, way_out_ru=_AMENDMENT_RU)
    return decision


def _refused_until(clause: Clause, rule: str, at: datetime, zone: ZoneInfo, freeze: Freeze | None = None) -> Decision:
    next_at = _next_let(clause, at, zone)
    if freeze:
        why, why_ru = f"The freeze {freeze.name!r} is on.", f"Действует мораторий «{freeze.name}»."
    else:
        why, why_ru = "Its window is not open.", "Окно работ закрыто."
    if next_at:
        when = f"{next_at.astimezone(zone):%Y-%m-%d %H:%M} {zone.key}"
        way = f"Wait until {when}, or have a named person break the glass with a reason."
        way_ru = f"Дождитесь {when} либо действуйте по решению названного лица с указанием причины."
    else:
        way, way_ru = _AMENDMENT, _AMENDMENT_RU
    text, text_ru = f"{clause.text} {why}", f"{clause.text_ru or clause.text} {why_ru}"
    return Decision(REFUSE, rule, clause.id, text, text_ru, way, way_ru, next_at=next_at)


def _next_let(clause: Clause, at: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the first instant from `at` on at which the clause allows or asks, inside its windows or outside."""
    if clause.outside in (None, REFUSE):
        return next_start(clause.windows, clause.freezes, at, zone)
    if clause.effect == REFUSE:
        return next_outside(clause.windows, clause.freezes, at, zone)
    return next_start((), clause.freezes, at, zone)  # it refuses neither here nor there


_AMENDMENT = "Propose a visit, ask the account manager for an amendment, or have a named person break the glass."
_AMENDMENT_RU = "Предложите выезд, запросите изменение договора или действуйте по решению названного лица."


def _no_clause(action_class: str, asset: Asset) -> Decision:
    return Decision(
        REFUSE,
        "no_clause",
        None,
        f"No clause of the contract speaks of {action_class} actions on {asset.name} ({asset.kind}).",
        f"Ни один пункт договора не говорит о действиях класса {action_class} на {asset.name} ({asset.kind}).",
        _AMENDMENT,
        _AMENDMENT_RU,
    )


def _not_covered(asset: Asset) -> Decision:
    return Decision(
        REFUSE,
        "not_covered",
        "covers",
        f"No line of the contract covers {asset.name} ({asset.kind}{f', {asset.site}' if asset.site else ''}).",
        f"Ни одна строка договора не охватывает {asset.name} ({asset.kind}).",
        "Ask the account manager to add the asset or its site to a line of the contract.",
        "Попросите менеджера включить объект или площадку в договор.",
    )


def _not_in_force(at: datetime, in_force: tuple[datetime, datetime | None], zone: ZoneInfo) -> Decision:
    begins = f"{in_force[0].astimezone(zone):%Y-%m-%d %H:%M}"
    early = at < in_force[0]
    ends = "" if early or in_force[1] is None else f"{in_force[1].astimezone(zone):%Y-%m-%d %H:%M}"
    return Decision(
        REFUSE,
        "not_in_force",
        "term",
        f"The contract begins only on {begins}." if early else f"The contract ended on {ends}.",
        f"Договор вступает в силу только {begins}." if early else f"Срок договора истёк {ends}.",
        "Ask the account manager for a contract that is in force.",
        "Обратитесь к менеджеру за действующим договором.",
        next_at=in_force[0] if early else None,
    )


def _broken(refusal: Decision, glass: BreakGlass, actor: str) -> Decision:
    approver, reason = glass.approver.strip(), glass.reason.strip()
    if not approver or not reason:
        raise Misconfigured("Breaking the glass needs a name and a reason.", advice="Say who answers for it, and why.")
    if approver == actor:
        return replace(
            refusal,
            way_out="Nobody breaks the glass for themselves: name another person who answers for it.",
            way_out_ru="Нельзя разрешить себе самому: назовите другое ответственное лицо.",
        )
    return Decision(
        ALLOW,
        "break_glass",
        refusal.clause_id,
        f"{refusal.text} {approver} overrides this: {reason}",
        f"{refusal.text_ru} Решение принял(а) {approver}: {reason}",
        break_glass=glass,
        overrides=refusal,
    )
