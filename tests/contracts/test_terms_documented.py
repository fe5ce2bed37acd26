"""Every key that a terms document may have stands on its page of the reference."""

import re
from pathlib import Path

import pytest

from msp.contracts import calendar, clauses, covers, lines, policy, terms

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "terms.md"
SECTIONS = {
    "The document": terms.KEYS,
    "A calendar": calendar.KEYS,
    "A line": lines.KEYS | set(policy.KEYS),
    "What a line covers or excludes": covers.KEYS,
    "A clause": clauses.KEYS,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_every_key_of_a_section_and_no_other(section: str) -> None:
    text = PAGE.read_text("utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(SECTIONS[section])
