"""The description of the interface: OpenAPI 3.1, schemas of the ledger's own lines."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from dicom_node.domain import Priority
from dicom_node.ledger.deliveries import DeliveryLine
from dicom_node.ledger.overview import JournalLine, StudyLine
from dicom_node.lifecycle import State

LIMIT_DEFAULT, LIMIT_MOST = 50, 1000
TITLE = "pacsight"
VERSION = "1"
"""Of the interface: it rises when something is taken away."""

Schema = dict[str, Any]


def described() -> Schema:
    """Return the description."""
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION},
        "security": [{"bearer": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
            "parameters": {
                "study": {
                    "name": "study",
                    "in": "path",
                    "required": True,
                    "description": "Study Instance UID",
                    "schema": _UID,
                },
                "limit": {
                    "name": "limit",
                    "in": "query",
                    "schema": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": LIMIT_MOST,
                        "default": LIMIT_DEFAULT,
                    },
                },
            },
        },
    }


_UID: Mapping[str, object] = {"type": "string", "pattern": r"^[0-9.]{1,64}$"}


def _paths() -> Schema:
    studies = "/api/studies"
    of_study = {"name": "study", "in": "query", "schema": _UID}
    return {
        "/health": {
            "get": {
                "summary": "Whether the node answers",
                "security": [],
                "responses": {
                    "200": {
                        "description": "It does",
                        "content": {"text/plain": {"schema": {"const": "ok\n"}}},
                    }
                },
            }
        },
        studies: _get("The studies in triage order", _many("Study"), _ref("limit")),
        f"{studies}/{{study}}/journal": _get(
            "What happened to a study, newest first",
            _many("JournalLine"),
            _ref("study"),
            _ref("limit"),
        ),
        "/api/deliveries": _get(
            "Where each object stands at each destination",
            _many("Delivery"),
            of_study,
            _ref("limit"),
        ),
        "/api/settings": _get("The settings, without secrets", {"type": "object"}),
        "/api/openapi.json": _get("This description", {"type": "object"}),
        **{
            f"{studies}/{{study}}/{verb}": _post(summary)
            for verb, summary in (
                ("complete", "Conclude the study without waiting any longer"),
                ("retry", "Try again what failed of the study"),
                ("conclude", "Conclude the study again with the packs in use now"),
            )
        },
    }


def _get(summary: str, schema: Schema, *parameters: Schema) -> Schema:
    named = bool(parameters)
    responses = _responses(schema, missing=named, malformed=named)
    return {
        "get": {
            "summary": summary,
            "parameters": list(parameters),
            "responses": responses,
        }
    }


def _post(summary: str) -> Schema:
    schema = {"$ref": "#/components/schemas/StudyState"}
    return {
        "post": {
            "summary": summary,
            "parameters": [_ref("study")],
            "responses": _responses(schema, missing=True),
        }
    }


def _responses(
    schema: Schema, *, missing: bool = False, malformed: bool = False
) -> Schema:
    problems = {
        "400": "A parameter does not fit" if malformed else "",
        "401": "Without a token that is accepted",
        "403": "Without the role, or asked for by another site's page",
        "404": "There is no such study" if missing else "",
        "429": "Too many requests: see Retry-After",
        "503": "The ledger or the issuer does not answer: see Retry-After",
    }
    told = {
        status: {
            "description": why,
            "content": {
                "application/problem+json": {
                    "schema": {"$ref": "#/components/schemas/Problem"}
                }
            },
        }
        for status, why in problems.items()
        if why
    }
    content = {"application/json": {"schema": schema}}
    return {"200": {"description": "Done", "content": content}, **told}


def _schemas() -> Schema:
    lines = {
        name: _of_line(kind)
        for name, kind in (
            ("Study", StudyLine),
            ("JournalLine", JournalLine),
            ("Delivery", DeliveryLine),
        )
    }
    names = [priority.queue for priority in Priority]
    lines["Study"]["properties"]["priority"] = {"type": "string", "enum": names}
    return {
        **lines,
        "StudyState": {
            "type": "object",
            "required": ["study_uid", "state"],
            "properties": {
                "study_uid": _UID,
                "state": {"type": "string", "enum": [state.value for state in State]},
            },
        },
        "Problem": {
            "type": "object",
            "required": ["status", "detail"],
            "properties": {
                "status": {"type": "integer"},
                "detail": {"type": "string"},
            },
        },
    }


def _of_line(kind: type) -> Schema:
    """Return a line's schema, its definitions in place."""
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    definitions = schema.pop("$defs", {})
    inlined: Schema = _inlined(schema, definitions)
    return inlined


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return definitions[schema["$ref"].rpartition("/")[2]]
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def _many(name: str) -> Schema:
    items = {"$ref": f"#/components/schemas/{name}"}
    return {"type": "array", "items": items, "maxItems": LIMIT_MOST}


def _ref(parameter: str) -> Schema:
    return {"$ref": f"#/components/parameters/{parameter}"}
