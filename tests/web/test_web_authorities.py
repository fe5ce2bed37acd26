"""Our SSH authorities and the ways in, on pages: the rules of the command line, sshd's own tools as the judge."""

import itertools
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from clicking import Browser
from sqlalchemy import select

from msp import db
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.evidence import Evidence
from msp.remote import ca
from msp.remote.ca import SshAuthority, SshCertificate
from msp.remote.models import Run, RunHost
from msp.settings import Settings
from msp.vault import Vault

Ids = dict[str, dict[str, int]]
LogIn = Callable[[str], Browser]
ADMIN, KEEPER, TECH, LIMITED = (f"{name}@provider.example" for name in ("admin", "keeper", "tech", "limited"))
PAGE = "/credentials/authorities/"


def issued(settings: Settings, client_id: int) -> ca.Issued:
    purpose = ca.Purpose(("root",), TECH, run_id=77, client_id=client_id)
    with db.begin() as session:
        return ca.issue(
            session, Vault.from_file(settings.key_path), ca.authority_of(session, client_id), purpose, now=utc_now()
        )


def is_revoked(certificate: str, revoked: bytes, folder: Path) -> bool:
    """Ask OpenSSH whether a list takes a certificate back."""
    (folder / "key-cert.pub").write_text(certificate)
    (folder / "krl").write_bytes(revoked)
    asked = subprocess.run(
        ["ssh-keygen", "-Q", "-f", str(folder / "krl"), str(folder / "key-cert.pub")], capture_output=True, check=False
    )
    assert b"cannot" not in asked.stderr.lower(), asked.stderr
    return asked.returncode == 1


def latest(kind: str) -> Evidence:
    with db.read() as session:
        return session.scalars(select(Evidence).where(Evidence.kind == kind).order_by(Evidence.id.desc())).first()  # type: ignore[return-value]


def test_certificate_is_taken_back_with_a_reason_and_the_list_says_so(
    settings: Settings, ids: Ids, log_in: LogIn, tmp_path: Path
) -> None:
    mine, keeper = ids["alfa"]["client_id"], log_in(KEEPER)
    first, second = issued(settings, mine), issued(settings, mine)
    page = keeper.get(f"{PAGE}?client={mine}&state=valid").text
    assert f'action="/credentials/authorities/certificates/{first.serial}/revoke"' in page
    assert keeper.send(f"{PAGE}certificates/{first.serial}/revoke").status_code == 422, "no reason"
    before = keeper.get(f"{PAGE}revoked-keys?client={mine}").data
    assert not is_revoked(first.certificate, before, tmp_path)
    assert log_in(TECH).send(f"{PAGE}certificates/{first.serial}/revoke", reason="x").status_code == 403
    assert keeper.send(f"{PAGE}certificates/{first.serial}/revoke", reason="lost laptop").status_code == 303
    revoked = keeper.get(f"{PAGE}revoked-keys?client={mine}")
    assert 'filename="revoked-keys-' in revoked.headers["Content-Disposition"]
    assert is_revoked(first.certificate, revoked.data, tmp_path)
    assert not is_revoked(second.certificate, revoked.data, tmp_path)
    assert keeper.send(f"{PAGE}certificates/{second.serial}/revoke", reason="all", whole="1").status_code == 303
    assert is_revoked(second.certificate, keeper.get(f"{PAGE}revoked-keys").data, tmp_path)
    assert latest("ca.revoked").data["reason"] == "all"
    assert "lost laptop" in keeper.get(f"{PAGE}?state=revoked").text


def test_authority_is_replaced_and_then_taken_back(settings: Settings, ids: Ids, log_in: LogIn, tmp_path: Path) -> None:
    keeper, bravo = log_in(KEEPER), ids["bravo"]["client_id"]
    old = issued(settings, bravo)
    again = keeper.send(f"{PAGE}new", client=str(bravo))
    assert again.status_code == 409, "one signs already"
    assert keeper.send(f"{PAGE}new", client=str(bravo), replace="1", sources="nonsense").status_code == 422
    taken = keeper.send(f"{PAGE}new", client=str(bravo), replace="1", sources="192.0.2.0/24, 198.51.100.0/24")
    assert taken.status_code == 303
    with db.read() as session:
        signs, before = ca.authority_of(session, bravo), session.get_one(SshCertificate, old.serial).authority_id
        assert signs.id != before
        assert (signs.source_addresses, signs.created_by) == ("192.0.2.0/24,198.51.100.0/24", KEEPER)
        assert session.get_one(SshAuthority, before).state == "replaced"
    assert signs.public_key in keeper.get(PAGE).text
    assert not is_revoked(old.certificate, keeper.get(f"{PAGE}revoked-keys?client={bravo}").data, tmp_path)
    assert keeper.send(f"{PAGE}{before}/revoke", reason="its key was read").status_code == 303
    assert is_revoked(old.certificate, keeper.get(f"{PAGE}revoked-keys?client={bravo}").data, tmp_path)
    assert latest("ca.authority_revoked").actor == KEEPER


def test_who_sees_one_client_only_neither_makes_nor_reads_what_concerns_all(ids: Ids, log_in: LogIn) -> None:
    limited, page = log_in(LIMITED), log_in(LIMITED).get(PAGE).text
    assert "Bravo" not in page
    assert limited.get(f"{PAGE}revoked-keys").status_code == 403
    assert limited.get(f"{PAGE}revoked-keys?client=0").status_code == 403
    assert limited.get(f"{PAGE}revoked-keys?client={ids['bravo']['client_id']}").status_code == 404
    assert limited.get(f"{PAGE}revoked-keys?client={ids['alfa']['client_id']}").status_code == 200


def test_way_in_is_changed_in_order_and_never_in_a_circle(ids: Ids, log_in: LogIn) -> None:
    admin, item = log_in(ADMIN), ids["alfa"]["asset_id"]
    with db.read() as session:
        names = {one.name: one.id for one in session.scalars(select(ConfigurationItem))}
    inner, outer = names["alfa-hv1"], names["alfa-srv-db1"]

    def through(asset: int, bastion: int, **form: str) -> int:
        return int(admin.send(f"/assets/{asset}/way", bastion=str(bastion or ""), **form).status_code)

    assert through(inner, outer, address="hv1.alfa.example") == 303
    assert through(item, inner, address="srv-fs1.alfa.example", username="root", secret_name="root-password") == 303
    page = admin.get(f"/assets/{item}/way").text
    assert page.index(">alfa-srv-db1<") < page.index(">alfa-hv1<") < page.index(">alfa-srv-fs1</span>")
    assert "alfa-srv-fs1" in admin.get(f"/assets/bastions?client={ids['alfa']['client_id']}").text
    assert through(outer, item) == 422, "a circle"
    assert through(item, names["alfa-sw-core"]) == 422, "no bastion over SSH"
    assert through(item, names["bravo-hv1"]) == 422, "of another client"
    assert admin.send(f"/assets/{item}/way", bastion="alfa-hv1").status_code == 422, "no number, and not none"
    for port in ("70000", "00000199999", "000022", "0", "-1", "9" * 5000):
        assert through(item, 0, port=port) == 422, port[:20]
    assert latest("asset.reach_changed").data["after"]["bastion_id"] == inner
    assert log_in(TECH).send(f"/assets/{item}/way", bastion="").status_code == 403
    assert through(item, 0, address="srv-fs1.alfa.example", username="root", secret_name="root-password") == 303


def test_a_bastion_gets_no_bastion_that_puts_what_is_behind_it_out_of_reach(ids: Ids, log_in: LogIn) -> None:
    with db.begin() as session:
        own = {"client_id": ids["alfa"]["client_id"], "kind": "server", "created_at": utc_now()}
        row = [ConfigurationItem(name=f"hop-{place}", **own) for place in range(7)]
        session.add_all(row)
        session.flush()
        for nearer, farther in itertools.pairwise(row[1:]):
            farther.bastion_id = nearer.id
        first, longest = row[0].id, [one.id for one in row[1:]]
    admin = log_in(ADMIN)
    assert admin.send(f"/assets/{longest[0]}/way", bastion=str(first)).status_code == 422
    assert admin.get(f"/assets/{longest[-1]}/way").status_code == 200
    assert admin.send(f"/assets/{longest[-1]}/way", bastion=str(longest[-3])).status_code == 303
    assert admin.send(f"/assets/{longest[0]}/way", bastion=str(first)).status_code == 303
    assert admin.get(f"/assets/{longest[-1]}/way").status_code == 200


@pytest.mark.usefixtures("engine")
def test_way_is_tested_by_a_run_that_only_reads(ids: Ids, log_in: LogIn) -> None:
    item, ticket = ids["alfa"]["asset_id"], ids["alfa"]["ticket_id"]
    answer = log_in(TECH).send(f"/assets/{item}/way/test", ticket=str(ticket))
    assert answer.status_code == 303
    with db.read() as session:
        run = session.get_one(Run, int(answer.location.rpartition("/")[2]))
        assert (run.playbook, run.action_class, run.ticket_id) == ("inventory-facts", "read", ticket)
    assert 'Last test: <span class="state' in log_in(TECH).get(f"/assets/{item}/way").text
    with db.begin() as session:
        (host,) = session.scalars(select(RunHost).where(RunHost.run_id == run.id))
        host.outcome, host.detail = "unreachable", "On the way to alfa-srv-fs1: edge refused the connection."
    text = log_in(TECH).get(f"/assets/{item}/way").text
    assert f'/runs/{run.id}"' in text
    assert "edge refused the connection" in text


@pytest.mark.parametrize("wrong", [{"until": ""}, {"until": "2001-01-01"}, {"until": "soon"}, {"reason": " "},
                                   {"algorithm": "rot13"}, {"algorithm": ""}])  # fmt: skip
def test_leave_for_old_algorithms_needs_end_reason_and_names(ids: Ids, log_in: LogIn, wrong: dict[str, str]) -> None:
    item = ids["alfa"]["asset_id"]
    form = {"algorithm": "ssh-rsa", "until": f"{utc_now() + timedelta(days=30):%Y-%m-%d}", "reason": "old firmware"}
    form |= wrong
    if not form["algorithm"]:
        del form["algorithm"]
    assert log_in(ADMIN).send(f"/assets/{item}/old-algorithms", **form).status_code == 422


def test_leave_for_old_algorithms_is_warned_of_until_it_is_taken_away(ids: Ids, log_in: LogIn) -> None:
    admin, item = log_in(ADMIN), ids["alfa"]["asset_id"]
    until = f"{utc_now() + timedelta(days=30):%Y-%m-%d}"
    given = admin.send(f"/assets/{item}/old-algorithms", algorithm="ssh-rsa", until=until, reason="old firmware")
    assert given.status_code == 303
    for page in (f"/assets/{item}", f"/assets/{item}/way"):
        text = admin.get(page).text
        assert "Old algorithms are spoken with it until" in text
        assert "old firmware" in text
    with db.begin() as session:
        session.get_one(ConfigurationItem, item).old_algorithms_until = utc_now() - timedelta(days=1)
    assert "has ended on" in admin.get(f"/assets/{item}").text
    assert admin.send(f"/assets/{item}/old-algorithms", withdraw="1").status_code == 303
    assert "old firmware" not in admin.get(f"/assets/{item}").text
    assert latest("asset.old_algorithms_withdrawn").actor == ADMIN
