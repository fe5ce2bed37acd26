"""Every field of the case document and every engine stands in the reference."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from msp.backup import engines
from msp.backup.case import ALIASES, BaculaJob, Expect, parse
from msp.clock import utc_now
from msp.errors import Misconfigured

PAGE = (Path(__file__).parent.parent.parent / "docs/reference/backup.md").read_text("utf-8")


def known() -> list[str]:
    """Return the fields that the reader names when it meets one it does not know."""
    with pytest.raises(Misconfigured) as caught:
        parse({"engine": "tar", "file": "/x", "nonsense": 1}, now=utc_now())
    return re.findall(r"[\w]+", caught.value.advice.partition(":")[2])


@pytest.mark.parametrize("name", [*known(), *(item.name for item in fields(Expect)), *engines.OWN, "mysqldump"])
def test_it_is_described(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_every_other_name_leads_to_an_engine() -> None:
    for name, engine in ALIASES.items():
        assert parse({"engine": name, "file": "/x"}, now=utc_now()).engine == engine
        assert engines.engine(engine)


def test_the_bacula_fields_are_fields_of_the_document() -> None:
    assert {item.name for item in fields(BaculaJob)} <= set(known())
