"""The playbooks that pages offer, read once and again when a file changes; a faulty one is shown with its faults."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flask import current_app

from msp.assets.models import ConfigurationItem
from msp.errors import Misconfigured, MspError, NotFound
from msp.remote import catalogue
from msp.remote.playbook import Playbook, digest


@dataclass(frozen=True, slots=True)
class Shelved:
    """One playbook on the shelf. `playbook` None: `fault` says why it cannot be run."""

    name: str
    playbook: Playbook | None
    digest: str = ""
    fault: str = ""

    def summary(self, language: str) -> str:
        if self.playbook is None:
            return self.fault
        return (self.playbook.summary_ru if language == "ru" else "") or self.playbook.summary

    def fits(self, item: ConfigurationItem) -> bool:
        """Return whether it is meant for such an item."""
        if self.playbook is None:
            return False
        meant = self.playbook.applies_to
        return (
            (not meant.platform or item.platform in meant.platform)
            and (not meant.ci_type or item.kind in meant.ci_type)
            and (not self.playbook.transport or item.transport in self.playbook.transport)
        )

    def says(self, words: str) -> bool:
        """Return whether every word of a search stands in its name, summary or symptoms."""
        book = self.playbook
        text = " ".join((self.name, book.summary, book.summary_ru, *book.symptoms) if book else (self.name,)).lower()
        return all(word in text for word in words.lower().split())


@lru_cache(maxsize=1024)
def _read(name: str, path: Path, _changed: int, own: str) -> Shelved:
    try:
        found = catalogue.find(str(path), own)
    except MspError as error:
        return Shelved(name, None, fault=error.what)
    return Shelved(name, found.playbook, digest(found.document))


def shelf() -> Iterator[Shelved]:
    """Yield every playbook that the installation offers, by name."""
    own = str(current_app.config["MSP_SETTINGS"].playbooks or "")
    for name, path in sorted(catalogue.files(own)):
        yield _read(name, path, path.stat().st_mtime_ns, own)


def on_shelf(name: str) -> Shelved:
    """Return the playbook of that name; raises NotFound. A path is no name: pages reach no other files."""
    found = next((one for one in shelf() if one.name == name), None)
    if found is None:
        raise NotFound(f"There is no playbook {name!r}.", advice="Choose one from the list.")
    return found


def sound(name: str) -> Shelved:
    """Return the playbook of that name, to be filled in; raises NotFound, and Misconfigured for one that has faults."""
    found = on_shelf(name)
    if found.playbook is None:
        raise Misconfigured(f"The playbook {name} has faults.", advice=found.fault)
    return found


def offered(items: Sequence[ConfigurationItem], words: str = "", *, everything: bool = False) -> list[Shelved]:
    """Return the playbooks that match a search and fit every one of `items`; `everything`: also those that do not."""
    found = [one for one in shelf() if one.says(words)]
    return found if everything or not items else [one for one in found if all(one.fits(item) for item in items)]


def for_symptom(symptom: str | None, item: ConfigurationItem | None = None) -> str | None:
    """Return the name of the first playbook that helps with a ticket's symptom, or None."""
    if not symptom:
        return None
    helps = [one for one in shelf() if one.playbook and symptom in one.playbook.symptoms]
    fit = [one for one in helps if item is None or one.fits(item)]
    mends = [one for one in fit if one.playbook and one.playbook.action_class != "read"]  # a report mends nothing
    return next((one.name for one in (*mends, *fit)), None)
