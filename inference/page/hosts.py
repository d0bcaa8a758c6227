"""Refuses requests that another site makes a visitor's browser send to this page."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class OwnHostOnly:
    """ASGI middleware: the Host header must name this server, and an Origin header the same host.

    Args:
        app: the application behind it.
        host: the address that the server listens on. Any Host is allowed on 0.0.0.0 and ::, where this server cannot
            know its names.
    """

    def __init__(self, app: Any, host: str) -> None:
        self.app = app
        self.names = None if host in ("0.0.0.0", "::") else {*LOOPBACK, host}

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
            host, origin = headers.get(b"host", ""), headers.get(b"origin")
            if not self.allowed(host, origin):
                if scope["type"] == "http":
                    text = [(b"content-type", b"text/plain")]
                    await send({"type": "http.response.start", "status": 403, "headers": text})
                    await send({"type": "http.response.body", "body": b"gcfsr demo: this host is not served"})
                else:
                    await send({"type": "websocket.close", "code": 1008})
                return
        await self.app(scope, receive, send)

    def allowed(self, host: str, origin: str | None) -> bool:
        """Whether a request with these headers is for this page and from it."""
        if self.names is not None and urlsplit(f"//{host}").hostname not in self.names:
            return False
        return origin is None or urlsplit(origin).netloc == host
