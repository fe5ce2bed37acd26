"""Where playbooks are found: a path, your own folder (setting `playbooks`), and those shipped with the product."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from msp.errors import Misconfigured, NotFound
from msp.remote import plan, whole
from msp.remote.plan import Found, Plan
from msp.remote.playbook import digest, load
from msp.remote.yaml_source import Faulty, read
from msp.secret import Secret

SUFFIXES = (".yml", ".yaml")
CASES = ".test.yml"  # NAME.test.yml holds the cases by which NAME.yml is tried


def folders(own: str = "") -> list[Path]:
    """Return the folders that are searched, in order; `own` is the setting `playbooks`."""
    package = Path(__file__).resolve().parent.parent
    shipped = (package.parent / "playbooks", package / "_playbooks")  # a checkout, an installed package
    return [Path(own).expanduser()] * bool(own) + [folder for folder in shipped if folder.is_dir()][:1]


def files(own: str = "") -> Iterator[tuple[str, Path]]:
    """Yield (name, path) of every playbook, yours before those shipped; the first of a name counts."""
    seen: set[str] = set()
    for folder in folders(own):
        for path in sorted(path for suffix in SUFFIXES for path in folder.rglob(f"*{suffix}")):
            if path.stem not in seen and not path.name.endswith(CASES):
                seen.add(path.stem)
                yield path.stem, path


def locate(name: str, own: str = "", beside: Path | None = None) -> Path:
    """Return the file of a playbook given by path or by name. Raises NotFound.

    beside: the folder of a playbook that includes it.
    """
    if name.endswith(SUFFIXES) or "/" in name:
        for path in (Path(name), *([beside / name] if beside else [])):
            if path.is_file():
                return path
        raise NotFound(f"There is no playbook {name}.", advice="`msp playbook list` shows those that there are.")
    found = next((path for stem, path in files(own) if stem == name), None)
    if beside and not found:
        found = next((path for suffix in SUFFIXES if (path := beside / f"{name}{suffix}").is_file()), None)
    if found is None:
        from difflib import get_close_matches

        near = get_close_matches(name, [stem for stem, _ in files(own)], n=1)
        advice = f"Did you mean {near[0]}?" if near else "`msp playbook list` shows those that there are."
        raise NotFound(f"There is no playbook {name!r}.", advice=advice)
    return found


def find(name: str, own: str = "", beside: Path | None = None) -> Found:
    """Return a playbook by path or name. Raises NotFound, or Misconfigured with every fault and its line."""
    path = locate(name, own, beside)
    try:
        document = path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}.", advice="Check the file's rights.") from error
    return parse(document, path, own)


def parse(document: bytes | str, path: Path | None = None, own: str = "") -> Found:
    """Return a playbook from its text. Raises Misconfigured with every fault and its line.

    path: where it stands; without it, what it includes and names beside it is not looked for.
    """
    folder = path.parent if path else None
    try:
        if folder is None:
            playbook = load(document)
        else:
            playbook = load(
                document,
                known=lambda name: is_known(name, own, folder),
                has_file=lambda name: (folder / name).is_file(),
                class_of=lambda name: class_of(name, own, folder),
            )
    except Faulty as error:
        where = f"{path}:" if path else ""
        lines = "\n".join(f"{where}{fault}" for fault in error.faults)
        raise Misconfigured(
            f"The playbook has faults:\n{lines}", advice="Correct them; see playbooks/README.md."
        ) from error
    text = document if isinstance(document, str) else document.decode("utf-8")
    return Found(playbook, text, folder)


@lru_cache(maxsize=16)
def kept(document: str) -> Found:
    """Return a playbook from its text as a run keeps it: one run asks for it several times, and fleets for the same.

    Raises Misconfigured with every fault and its line.
    """
    return parse(document)


def again(document: str, own: str = "") -> Found:
    """Return a playbook from its text as a run keeps it, with the folder of the file that still says the same.

    Files beside a playbook that has changed since are not taken.
    Raises Misconfigured with every fault and its line.
    """
    found = kept(document)
    if not whole.reaches_out(found.playbook):
        return found
    written = document.encode("utf-8")
    return replace(found, folder=next((path.parent for _, path in files(own) if path.read_bytes() == written), None))


def planned(document: str, parameters: Mapping[str, Any], own: str, *, secret: Callable[[str], Secret]) -> Plan:
    """Return the plan of a playbook as a run keeps it, bound to the playbooks it includes and the files beside them.

    Raises Misconfigured or NotFound for what is not there, cannot be read, or cannot be known before the run.
    """
    found = again(document, own)
    return whole.bound(plan.build(found, parameters, secret=secret, include=includer(own, found.folder)))


def digest_of(document: str, parameters: Mapping[str, Any], own: str = "") -> str:
    """Return the SHA-256 over all that a run would do as things stand now; of a plain playbook, that of its text.

    Raises as `planned` does.
    """
    if not whole.reaches_out(kept(document).playbook):
        return digest(document)
    return planned(document, parameters, own, secret=lambda _: Secret("")).digest


def class_of(name: str, own: str = "", beside: Path | None = None) -> str | None:
    """Return the action class that a playbook of that name claims, or None; its faults are told elsewhere."""
    try:
        value = read(locate(name, own, beside).read_bytes()).value
    except (NotFound, Faulty, OSError):
        return None
    said = value.get("action_class") if isinstance(value, dict) else None
    return said if isinstance(said, str) else None


def is_known(name: str, own: str = "", beside: Path | None = None) -> bool:
    """Tell whether a playbook of that name can be found."""
    try:
        locate(name, own, beside)
    except NotFound:
        return False
    return True


def includer(own: str = "", beside: Path | None = None) -> Callable[[str], Found]:
    """Return a function that finds included playbooks, for plan.build."""
    return lambda name: find(name, own, beside)
