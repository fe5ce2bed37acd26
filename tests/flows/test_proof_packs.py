"""A client's month as a signed pack: made from a real restore, the same later, verified by one command offline."""

import io
import json
import zipfile
from datetime import timedelta
from pathlib import Path

from click.testing import CliRunner
from test_restores_told import plan as plan
from test_restores_told import restore
from world import World

from msp import proof_pack
from msp.backup.models import BackupPlan
from msp.clock import utc_now
from msp.console import main
from msp.contracts.models import Client
from msp.flows import proof_packs
from msp.vault import Vault


def of_month(world: World, month: str, client: int | None = None, later: timedelta = timedelta()) -> bytes:
    with world.database.begin() as session:
        vault = Vault.from_file(world.settings.key_path)
        owner = session.get_one(Client, client or world.alfa)
        return proof_packs.of_month(session, vault, owner, month, utc_now() + later, provider="Provider")


def this_month(world: World) -> str:
    return f"{utc_now():%Y-%m}"


def test_a_pack_holds_the_tests_of_its_client_and_verifies_anywhere(
    world: World, plan: BackupPlan, tmp_path: Path
) -> None:
    test = restore(world, plan)
    data = of_month(world, this_month(world))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        document = json.loads(archive.read("proof.json"))
        assert archive.read("proof.pdf").startswith(b"%PDF")
        chain = archive.read("evidence.jsonl").decode()
    (one,) = document["plans"]
    assert (one["state"], one["tests"][0]["number"]) == ("proven", test.id)
    assert one["tests"][0]["result"]["verdict"] == "pass"
    assert '"kind":"restore.tested"' in chain
    file = tmp_path / "proof.zip"
    file.write_bytes(data)
    fingerprint = proof_pack.verify(data).key
    said = CliRunner().invoke(main, ["evidence", "verify", str(file), "--key", fingerprint])
    assert (said.exit_code, "are whole" in said.output) == (0, True), said.output
    file.write_bytes(data.replace(b'"verdict":"pass"', b'"verdict":"fail"', 1))
    said = CliRunner().invoke(main, ["evidence", "verify", str(file)])
    assert said.exit_code == 1
    assert "was changed" in said.output
    said = CliRunner().invoke(main, ["evidence", "verify", str(file), "--json"])
    assert json.loads(said.output)["whole"] is False


def test_a_month_that_is_over_is_the_same_whenever_it_is_asked(world: World, plan: BackupPlan) -> None:
    restore(world, plan)
    month, year = this_month(world), timedelta(days=400)
    first = of_month(world, month, later=year)
    restore(world, plan)  # what happens later in the present month belongs to it, so ask for one before it
    before = f"{utc_now() - timedelta(days=40):%Y-%m}"
    assert of_month(world, before) == of_month(world, before, later=year)
    assert proof_pack.verify(first).whole


def test_a_pack_tells_nothing_of_another_client(world: World, plan: BackupPlan) -> None:
    restore(world, plan)
    data = of_month(world, this_month(world), client=world.planted.clients["beta"])
    assert b"nightly" not in data
    assert proof_pack.verify(data).whole
