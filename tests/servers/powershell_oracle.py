"""What a PowerShell script says, by a grammar that is not ours (tree-sitter-powershell), where no PowerShell runs.

Understood: assignments, strings of every kind, variables, lists, and the function that reads base64. Everything else
is left alone. The rule of quotation marks, which the grammar knows for ASCII only, is written out again here.
"""

import base64
from typing import Any

import tree_sitter
import tree_sitter_powershell

LANGUAGE = tree_sitter.Language(tree_sitter_powershell.language())
SINGLE = "'\u2018\u2019\u201a\u201b"


def parsed(script: str) -> Any:
    """Return the tree of a script; raises AssertionError where the grammar finds a fault."""
    root = tree_sitter.Parser(LANGUAGE).parse(script.encode()).root_node
    assert not root.has_error, f"not PowerShell: {script}"
    return root


def shape(node: Any) -> list[Any]:
    """Return the kinds of nodes, without what they say: the same for scripts that differ in values only."""
    return [node.type, *(shape(child) for child in node.children)]


def unquoted(literal: str) -> str:
    """Return what a literal in single quotes stands for; raises AssertionError if it ends before its end."""
    assert literal[0] in SINGLE
    found, at = [], 1
    while True:
        char = literal[at]
        if char in SINGLE:
            if literal[at + 1 : at + 2] and literal[at + 1] in SINGLE:
                at += 1
            else:
                break
        found.append(char)
        at += 1
    assert at == len(literal) - 1, f"{literal!r} ends at {at}"
    return "".join(found)


class Evaluator:
    """Runs a script as far as it is understood. `shown` holds the arguments of every command `Show`."""

    def __init__(self, script: str, lines: list[str] | None = None) -> None:
        self._lines = lines or []
        self._variables: dict[str, Any] = {"true": True, "false": False, "null": None}
        self.shown: list[Any] = []
        self._statements(parsed(script))

    def _statements(self, node: Any) -> None:
        if node.type == "assignment_expression":
            self._variables[_name(node.children[0])] = self._value(node.children[-1])
        elif node.type == "command" and node.children[0].text == b"Show":
            wanted = [one for one in node.children[1].children if one.type != "command_argument_sep"]
            self.shown += [self._value(one) for one in wanted]
        else:
            for child in node.children:
                self._statements(child)

    def _value(self, node: Any) -> Any:
        text = node.text.decode()
        match node.type:
            case "verbatim_string_characters":
                return unquoted(text)
            case "verbatim_here_string_characters":
                return text[3:-3]
            case "expandable_string_literal" | "expandable_here_string_literal":
                begin, end = (1, 1) if node.type == "expandable_string_literal" else (3, 3)
                return self._expanded(node, text, begin, end)
            case "decimal_integer_literal":
                return int(text)
            case "variable":
                return self._variables[_name(node)]
            case "sub_expression":
                inner = [child for child in node.children if child.type == "statement_list"]
                return self._value(inner[0])
            case "command":
                return self._call(node)
            case "expression_with_unary_operator":
                assert text.startswith("-")
                return -self._value(node.children[-1])
            case "parenthesized_expression" | "array_expression":
                inner = [child for child in node.children if child.is_named]
                found = self._value(inner[0]) if inner else []
                return found if node.type != "array_expression" or isinstance(found, list) else [found]
        named = [child for child in node.children if child.is_named]
        if node.type == "array_literal_expression" and len(named) > 1:
            return [self._value(child) for child in named]
        assert len(named) == 1, f"not understood: {node.type} {text!r}"
        return self._value(named[0])

    def _call(self, node: Any) -> str:
        text = node.text.decode()
        assert text.startswith("&$msp_text "), text
        argument = text.removeprefix("&$msp_text ")
        if argument.startswith("$msp_in["):
            return base64.b64decode(self._lines[int(argument[8:-1])]).decode()
        return base64.b64decode(unquoted(argument)).decode()

    def _expanded(self, node: Any, text: str, begin: int, end: int) -> str:
        whole, at = node.text, node.start_byte
        parts, last = [], begin
        for child in node.children:
            if child.type not in ("variable", "sub_expression"):
                continue
            parts.append(_plain(whole[last : child.start_byte - at].decode()))
            found = self._value(child)
            parts.append(str(found))
            last = child.end_byte - at
        parts.append(_plain(whole[last : len(whole) - end].decode()))
        return "".join(parts)


def _plain(text: str) -> str:
    return text.replace('`"', '"').replace('""', '"')


def _name(node: Any) -> str:
    return str(node.text.decode()).strip("${}")
