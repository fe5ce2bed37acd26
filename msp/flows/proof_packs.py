"""A client's month of backups in one file that the client verifies for itself: see msp.proof_pack for the format.

Inside: what was tested and what came of it (proof.json for programs, proof.pdf for people), the screens that booted
machines showed, and the client's evidence of the month, whose chain goes on from the pack of the month before.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from babel.dates import format_date
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence, proof_pack
from msp.assets.models import ConfigurationItem
from msp.backup import plans
from msp.backup.models import BackupPlan, RestoreTest
from msp.backup.proof import Proof, Tested, proof_state
from msp.contracts import agreements
from msp.contracts.models import Client
from msp.contracts.terms import Restore
from msp.errors import NotFound
from msp.flows import backup_gaps, printed
from msp.flows.billing import bounds
from msp.vault import Vault

KEY = "proof pack signing key"  # in the vault, of the provider

#: key -> (English, Russian)
WORDS: dict[str, tuple[str, str]] = {
    "title": ("Proof of backups", "Подтверждение резервных копий"),
    "page": ("page", "стр."),
    "state": ("State at the end of the month", "Состояние на конец месяца"),
    "backup": ("Backup", "Копия"),
    "asset": ("Machine", "Машина"),
    "said": ("Judgement", "Заключение"),
    "period": ("Allowed age", "Допустимый возраст"),
    "tests": ("Restore tests of the month", "Проверочные восстановления за месяц"),
    "when": ("When", "Когда"),
    "verdict": ("Verdict", "Вердикт"),
    "rung": ("Rung", "Ступень"),
    "rto": ("Restored in", "Восстановлено за"),
    "rpo": ("Age of data", "Возраст данных"),
    "files": ("Files", "Файлов"),
    "finding": ("Finding", "Замечание"),
    "none": ("No restore test was made in this month.", "В этом месяце проверочных восстановлений не было."),
    "gaps": ("Under contract, and not proven", "По договору, но не подтверждено"),
    "machine": ("Machine", "Машина"),
    "lacks": ("What is missing", "Чего нет"),
    "plan_lacks": ("a backup plan: no backup of it is tested", "плана: его копии никто не проверяет"),
    "proof_lacks": ("a proof that holds", "действующего подтверждения"),
    "no_gaps": ("Nothing: every machine is covered.", "Ничего: каждая машина подтверждена."),
    "not_looked": ("Nobody looked at the end of this month.", "В конце этого месяца не проверялось."),
    "verify": ("How to verify", "Как проверить"),
    "command": (
        "msp evidence verify FILE reads the archive that this page came in: without a network and without a database.",
        "msp evidence verify FILE читает архив, из которого взята эта страница: без сети и без базы данных.",
    ),
    "key": ("Fingerprint of the signing key", "Отпечаток ключа подписи"),
    "proven": ("proven", "подтверждено"),
    "overdue": ("overdue", "просрочено"),
    "unproven": ("unproven", "не подтверждено"),
    "pass": ("pass", "пройдено"),
    "warn": ("warning", "с замечанием"),
    "fail": ("fail", "не пройдено"),
    "error": ("not carried out", "не выполнено"),
}


def signing_key(session: Session, vault: Vault) -> str:
    """Return the installation's signing key in hexadecimal; the first call makes it."""
    try:
        return vault.get(session, KEY).value
    except NotFound:
        vault.put(session, KEY, secrets.token_hex(32), by="worker", kind="other")
        return vault.get(session, KEY).value


def fingerprint(session: Session, vault: Vault) -> str:
    """Return what clients compare, once, with the fingerprint that the verifier prints."""
    key = proof_pack.read_key(signing_key(session, vault))
    return proof_pack.fingerprint(key.public_key().public_bytes_raw())


def of_month(
    session: Session, vault: Vault, client: Client, period: str, now: datetime, *, provider: str = ""
) -> bytes:
    """Return the pack of a client's month, "2026-10". A month that is over gives the same bytes whenever it is asked.

    Raises Misconfigured for a period that is no month.
    """
    start, end = bounds(client, period)
    until = min(now, end)
    key = proof_pack.read_key(signing_key(session, vault))
    restore = _promised(session, client, until)
    found = list(_watched(session, client, start, until))
    gaps = backup_gaps.seen_until(session, client, until, now) if restore is not None else []
    document = {
        "format": "backup-proof/1",
        "client": {"key": client.key, "name": client.name},
        "provider": provider,
        "period": period,
        "time_zone": client.time_zone,
        "from": start.astimezone(UTC).isoformat(),
        "until": until.astimezone(UTC).isoformat(),
        "promised": None if restore is None else {
            "proof_every_s": restore.proof_every_s, "rpo_s": restore.rpo_s, "rto_s": restore.rto_s
        },
        "gaps": gaps,
        "plans": [_plain(plan, item, state, tests) for plan, item, state, tests in found],
    }  # fmt: skip
    print_of_key = proof_pack.fingerprint(key.public_key().public_bytes_raw())
    files = {
        "proof.json": evidence.canonical(document),
        "proof.pdf": _pdf(client, period, until, found, gaps, provider, print_of_key),
        proof_pack.CHAIN: "".join(evidence.lines_between(session, client.id, start, until)).encode(
            "utf-8", "surrogatepass"
        ),
    }
    tests = [test for _, _, _, made in found for test in made]
    for number, picture in sorted(plans.pictures(session, (test.id for test in tests)).items()):
        files[f"pictures/test-{number}-{picture.name}.png"] = picture.png
    about = {"client": client.key, "period": period, "provider": provider}
    return proof_pack.build(files, about=about, key=key)


def _promised(session: Session, client: Client, at: datetime) -> Restore | None:
    version = agreements.version_in_force(session, client.id, at - timedelta(microseconds=1))
    return agreements.terms_of(version).restore if version else None


def _watched(
    session: Session, client: Client, start: datetime, until: datetime
) -> Iterator[tuple[BackupPlan, ConfigurationItem | None, Proof, list[RestoreTest]]]:
    """Yield each plan with its machine, its state at the end and the tests that ended within the month."""
    query = (
        select(BackupPlan, ConfigurationItem)
        .outerjoin(ConfigurationItem, ConfigurationItem.id == BackupPlan.asset_id)
        .where(BackupPlan.client_id == client.id, BackupPlan.created_at < until)
        .where(BackupPlan.removed_at.is_(None) | (BackupPlan.removed_at >= start))
        .order_by(BackupPlan.name, BackupPlan.id)
    )
    for plan, item in session.execute(query):
        tests = list(
            session.scalars(
                select(RestoreTest)
                .where(RestoreTest.plan_id == plan.id, RestoreTest.finished_at < until)
                .order_by(RestoreTest.finished_at, RestoreTest.id)
            )
        )
        tested = [Tested(test.finished_at, test.verdict, test.highest_rung)
                  for test in tests if test.finished_at is not None and test.verdict]  # fmt: skip
        state = proof_state(plan.proof_every, tested, until)
        yield plan, item, state, [test for test in tests if test.finished_at and test.finished_at >= start]


def _plain(
    plan: BackupPlan, item: ConfigurationItem | None, state: Proof, tests: Sequence[RestoreTest]
) -> dict[str, Any]:
    return {
        "name": plan.name,
        "engine": plan.engine,
        "machine": item.name if item else None,
        "proof_every_s": int(plan.proof_every.total_seconds()),
        "state": state.state,
        "words": state.words,
        "rung": state.rung,
        "tests": [
            {
                "number": test.id,
                "started_at": test.started_at.astimezone(UTC).isoformat(),
                "finished_at": test.finished_at.astimezone(UTC).isoformat() if test.finished_at else None,
                "nominal": test.nominal,
                "result": test.result,
            }
            for test in tests
        ],
    }


def _pdf(
    client: Client,
    period: str,
    until: datetime,
    found: Sequence[tuple[BackupPlan, ConfigurationItem | None, Proof, list[RestoreTest]]],
    gaps: Sequence[Mapping[str, str | None]] | None,
    provider: str,
    key: str,
) -> bytes:
    russian = client.locale.startswith("ru")
    locale = "ru" if russian else "en"

    def word(name: str) -> str:
        return WORDS[name][russian]

    states = [[word(name) for name in ("backup", "asset", "said", "period")]]
    tests = [[word(name) for name in ("when", "backup", "verdict", "rung", "rto", "rpo", "files", "finding")]]
    for plan, item, state, made in found:
        days = f"{plan.proof_every / timedelta(days=1):g} d"
        states.append([plan.name, item.name if item else "–", word(state.state), days])
        tests += [
            [
                printed.local(test.finished_at, client.time_zone),
                plan.name,
                word(test.verdict or "error"),
                f"{test.highest_rung}",
                printed.seconds(test.rto),
                printed.seconds(test.rpo),
                f"{test.result.get('restored_files', 0)}",
                next((str(one["what"]) for one in test.result.get("findings", ())), "–"),
            ]
            for test in made
        ]
    lacking = [[word("machine"), word("lacks")]]
    lacking += [[str(one["machine"]), word(f"{one['lacks']}_lacks")] for one in gaps or ()]
    if not gaps:
        lacking = [[word("no_gaps" if gaps is not None else "not_looked")]]
    sections = [
        (word("state"), states),
        (word("gaps"), lacking),
        (word("tests"), tests if len(tests) > 1 else [[word("none")]]),
        (word("verify"), [[word("command")], [f"{word('key')}: {key}"]]),
    ]
    month = format_date(date.fromisoformat(f"{period}-01"), "LLLL yyyy", locale=locale)
    title = f"{word('title')}: {client.name}, {month}"
    return printed.pdf(title, sections, locale=locale, on=until.date(), provider=provider, page=word("page"))
