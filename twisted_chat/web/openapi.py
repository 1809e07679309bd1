"""The API's description (OpenAPI 3.1), made from the routes and their structs, so that it agrees with the code."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from twisted_chat.version import __version__
from twisted_chat.web.responses import Refusal, Response
from twisted_chat.web.routing import ApiRequest, Route

_REF = "#/components/schemas/{name}"


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The description of the public routes among these."""
    public = [route for route in routes if route.public]
    kinds: list[type[Struct]] = [Refusal]
    for route in public:
        kinds += [kind for kind in (route.body, route.answers) if kind is not None and kind not in kinds]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in public:
        paths.setdefault(route.path, {})[route.method.decode().lower()] = _operation(route, of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "twisted_chat",
            "version": __version__,
            "description": "The logs of the rooms by HTTP; events have the same shape as in the WebSocket protocol.",
        },
        "paths": paths,
        "security": [{}, {"bearer": []}, {"session": []}, {"cookie": []}],
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "chat_session",
                    "description": "Over TLS: __Host-chat_session.",
                },
                "cookie": {"type": "apiKey", "in": "cookie", "name": "chat_token"},
            },
        },
    }


def openapi_route(routes: Iterable[Route]) -> Route:
    """``/api/v1/openapi.json``."""
    body = msgspec.json.encode(describe(routes)) + b"\n"

    def openapi(call: ApiRequest) -> Response:
        """This description."""
        return Response(200, ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-cache")), body)

    return Route(method=b"GET", path="/api/v1/openapi.json", endpoint=openapi)


def _operation(route: Route, of: dict[type[Struct], dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.decode().lower()}_{route.endpoint.__name__}",
        "summary": inspect.getdoc(route.endpoint) or "",
        "parameters": [*_path_parameters(route.path), *_query_parameters(route.query), *route.extra.get("parameters", [])],
        "responses": {
            str(route.status): _response("Done.", route.answers, of, route.extra.get("content", {})),
            "default": _response("Refused; nothing has changed.", Refusal, of, {}),
        },
    }
    content = {} if route.body is None else {"application/json": {"schema": of[route.body]}}
    content |= route.extra.get("body", {})
    if content:
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _response(words: str, kind: type[Struct] | None, of: dict[type[Struct], dict[str, Any]], more: Any) -> dict[str, Any]:
    content = {} if kind is None else {"application/json": {"schema": of[kind]}}
    return {"description": words, "content": {**content, **more}}


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for segment in path.split("/"):
        if segment.startswith("{"):
            yield {"name": segment.strip("{}"), "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameters(kinds: Iterable[type[Struct]]) -> Iterator[dict[str, Any]]:
    for kind in kinds:
        for field in msgspec.structs.fields(kind):
            yield {
                "name": field.encode_name,
                "in": "query",
                "required": field.required,
                "schema": msgspec.json.schema(field.type),
            }
