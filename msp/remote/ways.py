"""The way to a host that stands behind others: bastions by name, or as OpenSSH writes them in ProxyJump. Pure."""

import re
from collections.abc import Mapping
from dataclasses import replace

from msp.errors import Misconfigured
from msp.remote.target import Target

MOST_HOPS = 5
_JUMP = re.compile(r"(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^\]]+\]|[^:@\s]+)(?::(?P<port>\d+))?")


def led(targets: Mapping[str, Target], jumps: Mapping[str, str]) -> dict[str, Target]:
    """Return the targets with their bastions.

    jumps: by name of a target, its bastions, the nearest to us first, separated by commas. Each is the name of
    another target, which may have bastions of its own, or `user@host:port`: then it is entered with the credential
    of the target. Raises Misconfigured for ways that lead in circles.
    """
    found: dict[str, Target] = {}

    def whole(name: str, behind: tuple[str, ...]) -> Target:
        if name in behind or len(behind) > MOST_HOPS:
            raise Misconfigured(
                f"The way to {behind[0]} leads through {' and '.join([*behind[1:], name])}: it never arrives.",
                advice="Name bastions that can be reached without the host behind them.",
            )
        if name not in found:
            target = targets[name]
            hops: list[Target] = []
            for word in jumps.get(name, "").replace("ssh://", "").split(","):
                if not word.strip() or word.strip().lower() == "none":
                    continue
                hop = _hop(word.strip(), targets, target)
                if hop.name in targets and hop is targets[hop.name]:
                    hop = whole(hop.name, (*behind, name))
                if not hops:
                    hops += hop.via
                hops.append(replace(hop, via=()))
            if len(hops) > MOST_HOPS:
                raise Misconfigured(f"{name} stands behind {len(hops)} bastions.", advice=f"At most {MOST_HOPS}.")
            found[name] = replace(target, via=tuple(hops))
        return found[name]

    return {name: whole(name, ()) for name in targets}


def _hop(word: str, targets: Mapping[str, Target], behind: Target) -> Target:
    if word in targets:
        return targets[word]
    parts = _JUMP.fullmatch(word)
    if parts is None or (parts["port"] and not 0 < int(parts["port"]) < 65536):
        raise Misconfigured(f"{word!r} names no bastion.", advice="Write the name of a host, or user@host:port.")
    host = parts["host"].strip("[]")
    known = targets.get(host)
    port, user = parts["port"], parts["user"]
    if known is not None:
        credential = replace(known.credential, user=user) if user else known.credential
        return replace(known, port=int(port) if port else known.port, credential=credential)
    credential = replace(behind.credential, user=user or behind.credential.user)
    return Target(name=host, address=host, port=int(port or 22), credential=credential)
