"""The sentences that msp says, read from its source: every string that is a sentence, with its slots named.

Used by tools/translations.py; how they are found again in a stored text is said in msp/sentences.py.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Rooms and modules whose sentences reach pages, mails and documents.
TOLD = (
    "contracts",
    "desk",
    "assets",
    "people",
    "dispatch",
    "backup",
    "flows",
    "remote",
    "secret_store",
    "db.py",
    "evidence.py",
    "settings.py",
    "vault.py",
    "migrations/__init__.py",
)
#: What only a terminal or an author of files reads, and what has its words in both languages by itself.
LEFT_OUT = (
    "backup/case.py",
    "backup/manifest.py",
    "contracts/act_words.py",
    "contracts/billing_cases.py",
    "contracts/evaluate.py",
    "dispatch/accelerate.py",
    "dispatch/checker.py",
    "dispatch/construct.py",
    "dispatch/loading.py",
    "dispatch/network.py",
    "dispatch/plan.py",
    "dispatch/problem.py",
    "dispatch/solve.py",
    "dispatch/roads/services.py",
    "flows/install.py",
    "flows/offline.py",
    "remote/cases.py",
    "remote/inventory.py",
    "remote/playbook.py",
    "remote/playbook_part.py",
    "remote/playbook_steps.py",
    "remote/yaml_source.py",
    "remote/network/part.py",
    "remote/screen/part.py",
)
ERRORS = frozenset({"Misconfigured", "Refused", "Conflict", "NotFound", "Unreachable", "StepFailed", "MspError"})
#: Calls whose strings are for people whatever they look like.
SAYING = ERRORS | {"Finding", "Outcome", "Decision", "End", "Break", "Opening", "_open"}
#: Names of what becomes a sentence, or of lists of its parts.
SAID = frozenset({"said", "reasons", "missing", "why", "lacks", "parts", "text", "what", "words"})
#: Calls whose strings are for programs.
MUTE = frozenset(
    {"compile", "search", "match", "fullmatch", "sub", "strftime", "option", "echo", "argument", "command", "Field"}
    | {"execute", "text", "sql", "psql", "ask", "info", "debug", "warning", "error", "exception", "CheckConstraint"}
    | {"Index", "mapped_column", "ValueError", "TypeError", "RuntimeError"}
)
_WORD = re.compile(r"[A-Za-z]{2,}")
_SQL = re.compile(r"\b(SELECT|FROM|CREATE|ALTER|DROP|PRAGMA)\b")


def sentences() -> dict[str, str]:
    """Return {sentence: file}; slots are `%(name)s`. Sentences that differ in the names of slots alone are one."""
    found: dict[str, tuple[str, str]] = {}
    of_rooms = ((text, file) for file in _files() for text in _of(ast.parse(file.read_text("utf-8"))))
    for text, file in (*of_rooms, *_of_pages()):
        found.setdefault(re.sub(r"%\(\w+\)s", "\0", text), (text, file.relative_to(ROOT).as_posix()))
    return dict(found.values())


def _of_pages() -> Iterator[tuple[str, Path]]:
    """Yield the errors that pages raise; their other words are in the catalogue of the pages."""
    for file in sorted((ROOT / "web" / "msp_web").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
                for argument in (*node.args, *(word.value for word in node.keywords)):
                    for one in _choices(argument):
                        if (text := template(one)) and _is_spoken(text):
                            yield text, file


def _files() -> Iterator[Path]:
    for name in TOLD:
        place = ROOT / "msp" / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            if file.relative_to(ROOT / "msp").as_posix() not in LEFT_OUT:
                yield file


def _of(tree: ast.Module) -> Iterator[str]:
    mute, spoken = set[int](), set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            mute.add(id(node.value))  # a docstring
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in MUTE:
                mute.update(map(id, ast.walk(node)))
            elif name in SAYING or (name in ("append", "insert") and _root(node.func) in SAID):
                for argument in (*node.args, *(word.value for word in node.keywords if word.arg != "code")):
                    spoken.update(map(id, _choices(argument)))
            elif name == "join":
                spoken.update(id(one.elt) for one in node.args if isinstance(one, ast.GeneratorExp))
            for word in node.keywords:
                if word.arg in ("subject", "text", "reason", "detail", "what"):
                    spoken.add(id(word.value))
        elif isinstance(node, ast.Assign):
            name = getattr(node.targets[0], "id", "")
            if name == "WORDS" and isinstance(node.value, ast.Dict):
                spoken.update(map(id, node.value.values))
            elif name in SAID:
                spoken.update(map(id, _choices(node.value)))
        elif isinstance(node, ast.FunctionDef) and node.name in SAID:
            for one in ast.walk(node):
                if isinstance(one, ast.Return) and one.value is not None:
                    spoken.update(map(id, _choices(one.value)))
        elif isinstance(node, ast.JoinedStr):
            mute.update(id(part) for part in node.values if isinstance(part, ast.Constant))
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    mute.update(id(one) for one in ast.walk(part.format_spec or ast.Constant("")))
    for node in ast.walk(tree):
        text = None if id(node) in mute else template(node)
        if not text or text != text.strip() or _SQL.search(text):
            continue
        if _is_sentence(text) or (id(node) in spoken and _is_spoken(text)):
            yield text


def _root(function: ast.expr) -> str:
    """Return the name of the thing whose method is called."""
    return function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""


def _choices(node: ast.expr) -> Iterator[ast.AST]:
    """Yield the strings that an argument may be."""
    if isinstance(node, ast.IfExp):
        yield from _choices(node.body)
        yield from _choices(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _choices(value)
    else:
        yield node


def template(node: ast.AST) -> str | None:
    """Return the text of a string literal with its slots named, or None for what is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return None
    names: list[str] = []
    text = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
            continue
        assert isinstance(part, ast.FormattedValue)
        name = base = _name(part.value)
        while name in names:
            name = f"{base}{names.count(name) + sum(one.startswith(base) for one in names)}"
        names.append(name)
        text += f"%({name})s"
    return text


def _name(value: ast.expr) -> str:
    match value:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_") or "value"
        case ast.Subscript(value=inner):
            return _name(inner)
        case ast.Call(func=ast.Attribute(attr="join"), args=[inner, *_]):
            return _name(inner)
        case ast.Call(args=[inner, *_]):
            return _name(inner)
        case ast.Call(func=ast.Attribute(value=inner)):
            return _name(inner)
        case ast.GeneratorExp(elt=inner) | ast.BinOp(left=inner) | ast.BoolOp(values=[inner, *_]):
            return _name(inner)
    return "value"


def _is_spoken(text: str) -> bool:
    fixed = re.sub(r"%\(\w+\)s", "", text)
    return " " in text.strip() and text[0] != "-" and len(_WORD.findall(fixed)) >= 1 and not re.search("[а-яё]", text)


def _is_sentence(text: str) -> bool:
    fixed = re.sub(r"%\(\w+\)s", " ", text)
    return (
        len(_WORD.findall(fixed)) >= 2
        and bool(re.match(r"[A-Z%“\"]", text))
        and text.endswith((".", "?", "!", ")s", ")s)"))
        and not re.search("[а-яё]", text)
        and " " in text
        and "  " not in text
        and "\n" not in text
    )
