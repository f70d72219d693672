"""A guard before a web application that asks for no password: it serves its own pages, and no other site's.

A browser lets any page of the web send requests to 127.0.0.1, and Dagster's server takes GraphQL mutations in forms that need no
permission (GET, plain text, parameters in the address): an image on a page could start or delete runs. What tells such requests
apart is what browsers say of them and pages cannot change: `Origin`, `Sec-Fetch-Site`, and `Host`, which names the page's own
site where that has been given the address 127.0.0.1 (DNS rebinding). Programs that are no browsers say nothing and are served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class SameOrigin:
    """An ASGI middleware. The application may be called under the names of `here` and `added`; where both are empty, under any.
    Those of `added` may be those of a proxy in front, which names itself to the browser and something else to the application."""

    def __init__(
        self, app: Application, here: frozenset[str] = frozenset(), added: frozenset[str] = frozenset()
    ) -> None:
        self.app, self.here, self.added = app, here, frozenset(map(str.lower, added))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def unframed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-frame-options", b"DENY")]
            await send(message)

        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif (reason := refusal(scope, self.here, self.added)) is None:
            await self.app(scope, receive, unframed)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": f"{reason}\n".encode()})


def refusal(scope: Scope, here: frozenset[str], added: frozenset[str] = frozenset()) -> str | None:
    """Why a request is not served; None where it is."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
    if here | added and name_in(f"//{host}") not in here | added:
        return f"This is not served under the name {host}; RLAIF_UI_NAMES can name it."
    if "origin" in headers and origin.partition("://")[2] != host and name_in(origin) not in added:
        return "Pages of other sites may not send requests here."
    visits = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not visits:
        return "Pages of other sites may not send requests here."
    asks = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    if (
        scope["type"] == "http"
        and scope["method"] in ("GET", "HEAD")
        and "query" in asks
        and scope["path"].endswith("/graphql")
    ):
        return "GraphQL is served to POST, not to a link."
    return None


def name_in(address: str) -> str | None:
    """The host of an address, without its port; None where there is none."""
    try:
        return urlsplit(address).hostname
    except ValueError:  # brackets that are not closed
        return None
