"""The OpenAPI 3.1 document of the API, written from its views: their routes, marks, docstrings and pydantic models."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ParamSpec, TypeVar

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from msp_web.access import Mark
from msp_web.api_models import LARGEST, Problem

P = ParamSpec("P")
R = TypeVar("R")
PREFIX = "/api/v1/"
REFERENCE = "#/components/schemas/{model}"
#: status -> when a call is answered so
FAULTS = {
    400: "The token in the header X-CSRFToken is missing or old.",
    401: "Nobody is logged in, or the token opens nothing.",
    403: "Your role does not allow it.",
    404: "There is no such thing, or none that you may know of.",
    409: "The thing has moved on; look again.",
    415: "The body is not JSON.",
    422: "The query or the body cannot mean what it says.",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """What a view of the API takes and gives. `answer` None: any JSON object."""

    answer: type[BaseModel] | None
    status: int = 200
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    tag: str = ""


def operation(**given: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Say what a view takes and gives; stands under its mark."""

    def told(view: Callable[P, R]) -> Callable[P, R]:
        view.operation = Operation(**given)  # type: ignore[attr-defined]
        return view

    return told


def routes(app: Flask) -> list[tuple[Rule, Any]]:
    """Return (rule, view) of every route of the API, by address. Raises RuntimeError for one that is silent."""
    found = []
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if rule.rule.startswith("/api/"):
            view = app.view_functions[rule.endpoint]
            if not isinstance(getattr(view, "operation", None), Operation):
                raise RuntimeError(f"{rule.endpoint} ({rule.rule}) does not say what it takes and gives: @operation.")
            found.append((rule, view))
    return found


def document(app: Flask) -> dict[str, Any]:
    """Return the document of the application's API."""
    found = routes(app)
    models = {Problem} | {
        model
        for _, view in found
        for model in (view.operation.answer, view.operation.body, view.operation.query)
        if model is not None
    }
    ordered = sorted(models, key=lambda model: model.__name__)
    names, schemas = models_json_schema([(model, "serialization") for model in ordered], ref_template=REFERENCE)
    references = {model: names[model, "serialization"] for model in ordered}
    queries = {view.operation.query for _, view in found}
    paths: dict[str, dict[str, Any]] = {}
    for rule, view in found:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = _described(rule, method, view, references)
    inlined = {references[model]["$ref"].rsplit("/", 1)[1] for model in queries if model is not None}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "msp-toolkit",
            "version": _version(),
            "summary": "Tickets, runs and proofs of backups, for staff and for clients through the same gate.",
            "description": "Log in as in a browser; the session cookie is the key. Every POST carries the token of "
            "/api/v1/me in the header X-CSRFToken. Backup jobs bring their own token in the header Authorization "
            "instead. Errors are problem documents (RFC 9457).",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {name: one for name, one in schemas.get("$defs", {}).items() if name not in inlined},
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": app.config["SESSION_COOKIE_NAME"]},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRFToken"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _described(rule: Rule, method: str, view: Any, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    says: Operation = view.operation
    mark: Mark = view.access
    first, _, rest = (view.__doc__ or "").strip().partition("\n")
    answer = references[says.answer] if says.answer else {"type": "object"}
    faults = {"public": set(), "token": {401}}.get(mark.who, {401, 403})
    faults |= {404} if rule.arguments and mark.who != "token" else set()
    faults |= {422} if says.query else set()
    faults |= {415, 422} | ({400, 404} if mark.who != "token" else set()) if says.body else set()
    described: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [says.tag or "other"],
        "summary": first.rstrip("."),
        "parameters": [*_in_path(rule), *_in_query(says)],
        "responses": {
            str(says.status): {"description": "Done.", "content": {"application/json": {"schema": answer}}},
            **{
                str(status): {
                    "description": FAULTS[status],
                    "content": {"application/problem+json": {"schema": references[Problem]}},
                }
                for status in sorted(faults)
            },
        },
        "security": _security(mark, method),
    }
    if rest.strip():
        described["description"] = " ".join(rest.split())
    if says.body:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": references[says.body]}},
        }
    return described


def _security(mark: Mark, method: str) -> list[dict[str, list[str]]]:
    if mark.who == "public":
        return []
    if mark.who == "token":
        return [{"token": []}]
    return [{"session": [], **({"csrf": []} if method != "GET" else {})}]


def _in_path(rule: Rule) -> list[dict[str, Any]]:
    whole = {"type": "integer", "minimum": 1, "maximum": LARGEST}
    return [{"name": name, "in": "path", "required": True, "schema": whole} for name in sorted(rule.arguments)]


def _in_query(says: Operation) -> list[dict[str, Any]]:
    if says.query is None:
        return []
    schema = says.query.model_json_schema(ref_template=REFERENCE)
    found = []
    for name, one in schema["properties"].items():
        plain = {key: value for key, value in one.items() if key not in ("title", "description")}
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": plain}
        found.append({**parameter, "description": one["description"]} if "description" in one else parameter)
    return found


@cache
def _version() -> str:
    try:
        return version("msp-toolkit")
    except PackageNotFoundError:
        return "0"
