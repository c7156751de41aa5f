"""The app's people for assistants (Model Context Protocol): the tools of `pamela serve`, at `/mcp`."""

import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

from ..rewards import PersonalReward
from ..rewards.serving import ScoringService, ServiceLimits
from ..rewards.serving.requests import RequestError
from ..rewards.serving.tools import create_tools, create_tools_app
from .heads import StoreHeads
from .learner import Learner
from .security import MAX_UPLOAD
from .store import Store

PATH = "/mcp"


class Assistants:
    """The tools, for whoever is in the store.

    Args:
        store: the answers.
        learner: where the base is, once it is loaded.

    Raises:
        ImportError: the package mcp is missing, or older than the tools need.
    """

    def __init__(self, store: Store, learner: Learner):
        self.store, self.learner = store, learner
        self._service: ScoringService | None = None
        self._lock = threading.Lock()
        self._tools = create_tools(self.service)

    def service(self) -> ScoringService:
        """What scores, made at the first question. Raises RequestError while the base is not loaded."""
        base = self.learner.base
        if base is None:
            raise RequestError(self.learner.problem or f"Not yet: {self.learner.status}")
        with self._lock:
            if self._service is None:
                base.with_encoder()
                reward = PersonalReward(base.scorer, heads=StoreHeads.of_base(self.store, base))
                self._service = ScoringService(reward, ServiceLimits(max_body_bytes=MAX_UPLOAD))
            return self._service

    def mount(self, server: FastAPI) -> None:
        """Adds the endpoint to a server, whose lifespan has to be [`lifespan`]."""
        server.router.routes.extend(create_tools_app(self._tools, PATH, MAX_UPLOAD).routes)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        async with self._tools.session_manager.run():
            yield

    def close(self) -> None:
        if self._service is not None:
            self._service.close()
