"""Middleware of the embedded Phoenix, which loads it from this file: requests of web pages of other origins are refused.

Without users Phoenix checks no origin: a page that was rebound to this machine could read and delete every trace.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from starlette.middleware.base import BaseHTTPMiddleware

from shared.asgi.origin import SameOrigin

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class RefusePages(BaseHTTPMiddleware):
    """Of the only kind that Phoenix takes. Traces are sent as protobuf, so that any content type passes."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        host = os.environ.get("PHOENIX_HOST", "localhost")  # noqa: TID251 - it runs in Phoenix's process
        self._checked = SameOrigin(app, host, json_only=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._checked(scope, receive, send)
