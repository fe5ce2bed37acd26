"""Bring the scripts, styles and icons of the pages into web/msp_web/static/vendor, pinned and checked.

    python tools/vendor.py            fetch again what tools/vendor.json names and check it
    python tools/vendor.py --accept   also write the integrity hashes of new versions into tools/vendor.json

The files are committed, so neither a build nor a browser ever asks another server for them.
"""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "web" / "msp_web" / "static"
LIST = ROOT / "tools" / "vendor.json"
SVG = "http://www.w3.org/2000/svg"
LICENCES = ("LICENSE", "LICENSE.txt")


def pack(name: str, version: str, into: Path) -> Path:
    """Fetch one package with the ordinary client and return its archive."""
    subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=into, check=True, stdout=subprocess.DEVNULL)
    return next(into.glob("*.tgz"))


def integrity(archive: Path) -> str:
    """Return the hash as registries and browsers write it (W3C Subresource Integrity)."""
    return "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()


def without_data_urls(css: str, folder: Path) -> str:
    """Move images written inside a style sheet into files beside it: our policy allows none from elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)

    def to_file(found: re.Match[str]) -> str:
        from urllib.parse import unquote

        name = hashlib.sha256(found[1].encode()).hexdigest()[:12] + ".svg"
        (folder / name).write_text(unquote(found[1]).strip() + "\n", "utf-8")
        return f'url("{folder.name}/{name}")'

    return re.sub(r"""url\(["']data:image/svg\+xml[^,]*,(.*?)["']\)""", to_file, css)


def sprite(icons: list[str], folder: Path) -> str:
    """Return one SVG with a symbol for every icon. Raises KeyError for a name that the package lacks."""
    ElementTree.register_namespace("", SVG)
    whole = ElementTree.Element(f"{{{SVG}}}svg")
    for name in sorted(set(icons)):
        file = folder / f"{name}.svg"
        if not file.exists():
            raise KeyError(f"There is no icon named {name}.")
        symbol = ElementTree.SubElement(whole, f"{{{SVG}}}symbol", {"id": name, "viewBox": "0 0 24 24"})
        for child in ElementTree.fromstring(file.read_text("utf-8")):
            if child.get("d") != "M0 0h24v24H0z":
                symbol.append(child)
    ElementTree.indent(whole, " ")
    return ElementTree.tostring(whole, encoding="unicode") + "\n"


def third_party(packages: dict[str, Any], licences: dict[str, str]) -> str:
    """Return the page that names what is shipped, under which licence."""
    text = ["# Third-party files in `vendor/`", "", "Written by `tools/vendor.py`; do not edit.", ""]
    text += ["| package | version | licence | what for |", "|---|---|---|---|"]
    text += [f"| {name} | {p['version']} | {p['licence']} | {p['what']} |" for name, p in packages.items()]
    for name, licence in licences.items():
        text += ["", f"## {name}", "", "```", licence.strip(), "```"]
    return "\n".join(text) + "\n"


MIT = """MIT License

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def main(accept: bool) -> int:
    """Fetch, check and write everything; return the exit status."""
    wanted = json.loads(LIST.read_text("utf-8"))
    vendor = STATIC / "vendor"
    licences: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "vendor"
        for number, (name, package) in enumerate(wanted["packages"].items()):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            archive = pack(name, package["version"], folder)
            key, found = f"{name}@{package['version']}", integrity(archive)
            if accept:
                wanted["integrity"].setdefault(key, found)
            if wanted["integrity"].get(key) != found:
                print(f"vendor: {key} is not what was pinned.\n        Compare it, then run with --accept.")
                return 1
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            source = folder / "package"
            for inside, outside in package.get("files", {}).items():
                target = fresh / outside
                target.parent.mkdir(parents=True, exist_ok=True)
                text = (source / inside).read_text("utf-8")
                text = re.sub(r"\s*(/\*#\s*sourceMappingURL=.*?\*/|//#\s*sourceMappingURL=\S*)\s*$", "\n", text)
                if target.suffix == ".css":
                    text = without_data_urls(text, target.parent / "img")
                target.write_text(text, "utf-8")
            for inside, outside in package.get("folders", {}).items():  # as they are: some licences ask for that
                shutil.copytree(source / inside, fresh / outside)
            if "sprite" in package:
                (fresh / package["sprite"]).write_text(sprite(wanted["icons"], source / "icons" / "outline"), "utf-8")
            file = next((source / known for known in LICENCES if (source / known).exists()), None)
            author = json.loads((source / "package.json").read_text("utf-8")).get("author", "")
            author = author.get("name", "") if isinstance(author, dict) else author
            licences[name] = file.read_text("utf-8") if file else f"Copyright (c) {author}\n\n{MIT}"
        wanted["integrity"] = {
            key: value
            for key, value in wanted["integrity"].items()
            if key in {f"{name}@{p['version']}" for name, p in wanted["packages"].items()}
        }
        shutil.rmtree(vendor, ignore_errors=True)
        shutil.copytree(fresh, vendor)
    (STATIC / "THIRD_PARTY.md").write_text(third_party(wanted["packages"], licences), "utf-8")
    if accept:
        text = json.dumps(wanted, indent=2, ensure_ascii=False)
        icons = re.search(r'"icons": \[(.*?)\]', text, re.DOTALL)
        if icons:  # keep the long list of icons readable
            import textwrap

            names = ", ".join(f'"{name}"' for name in sorted(set(wanted["icons"])))
            text = text.replace(
                icons[0],
                '"icons": [\n' + textwrap.indent(textwrap.fill(names, 112, break_on_hyphens=False), "    ") + "\n  ]",
            )
        LIST.write_text(text + "\n", "utf-8")
    size = sum(file.stat().st_size for file in vendor.rglob("*") if file.is_file())
    print(f"{sum(1 for file in vendor.rglob('*') if file.is_file())} files, {size / 1024:.0f} KiB in {vendor.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main("--accept" in sys.argv[1:]))
