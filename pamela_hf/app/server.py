"""The app as one server: pages, pictures and answers from the first second on, and behind them a `gradio.Server`, which
is a FastAPI application with Gradio's queue, API clients, MCP and Space hosting
(https://www.gradio.app/guides/server-mode)."""

import contextlib
import functools
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import BaseSource, default_store, features_file
from .learner import Learner
from .pictures import PictureFolder
from .prompting import PromptRuns
from .security import Access, Guard
from .store import Store

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from .assistants import Assistants
    from .routes.context import Context
    from .space import Space

SWITCH_SECONDS = 0.001
# of FastAPI: an address is one of ours or it is not
NO_OTHER_ROUTES = {"docs_url": None, "redoc_url": None, "openapi_url": None, "redirect_slashes": False}
PAGES = Path(__file__).parent / "pages"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class AppSettings:
    """What an app is started with; see `pamela app --help`.

    Attributes:
        images: folder of pictures.
        model: folder or Hub id of a trained model; `None` (default): a blank base.
        encoder: folder or Hub id of the images' encoder; `None` (default): the model's, else SigLIP 2.
        store: file of the answers; `None` (default): one for this folder in the home folder.
        host: address it listens on, default "127.0.0.1"; on another host than this machine a token is asked for.
        port: port it listens on, default 7860.
        pipeline: Hub id or folder of a text-to-image pipeline, or "procedural" (default).
        title: what the page is called; `None` (default): pamela.
        ratings: where answers are kept beside the store, a folder or `owner/name` of a private dataset on the Hub;
            `None` (default): nowhere else.
        space: the Space it runs on; `None` (default): none.
    """

    images: str
    model: str | None = None
    encoder: str | None = None
    store: str | None = None
    host: str = "127.0.0.1"
    port: int = 7860
    pipeline: str = "procedural"
    title: str | None = None
    ratings: str | None = None
    space: "Space | None" = None


class App:
    """A running app; use it in a `with` statement, or call `serve`.

    Args:
        settings: see [`AppSettings`].

    Raises:
        ValueError: no pictures. StoreError: the answers' file cannot be written. ImportError: gradio is missing.
    """

    def __init__(self, settings: AppSettings):
        if importlib.util.find_spec("gradio") is None:
            raise ImportError("The app needs gradio: pip install 'pamela_hf[app]'")
        from .door import Door
        from .routes.context import Context

        self.settings, space = settings, settings.space
        path = Path(settings.store) if settings.store else default_store(settings.images)
        self.folder = PictureFolder(settings.images)
        self.store = Store(path)
        source = BaseSource(settings.model, settings.encoder, features_file(path))
        self.learner = Learner(self.folder, source, self.store)
        self.keeper, self.assistants = None, None
        if settings.ratings:
            from .keeping import Keeper

            self.keeper = Keeper(self.store, settings.ratings)
        runs = PromptRuns(path.with_suffix(".prompts"), settings.pipeline)
        context = Context(self.store, self.learner, runs, settings, self.keeper)
        pages = {("/" if file.stem == "index" else f"/pages/{file.name}"): file for file in sorted(PAGES.iterdir())}
        own = (*pages, "/api/", "/images/", *([] if space else ["/mcp"]))
        if space:
            self.access = Access.for_space(space.hosts, (*own, *space.paths))
        else:
            self.access = Access.for_host(settings.host, own)
        build = functools.cache(lambda: self._second(context))
        if space and space.sign_in:  # all endpoints are behind it: what it lacks is said at once
            build()
        door = Door(_first(context, pages), build, self.learner.start)
        self._server, self._thread = _listening(Guard(door, self.access)), None

    def _second(self, context: "Context") -> "FastAPI":
        """What takes seconds to import: all endpoints but those of rating, on Gradio's server."""
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
        from gradio import Blocks, Server, mount_gradio_app

        from .routes import add_other_routes, add_rating_routes

        space = self.settings.space
        if not space:
            self.assistants = _assistants(self.store, self.learner)
        lifespan = self.assistants.lifespan if self.assistants else None
        server = Server(title="pamela", **NO_OTHER_ROUTES, lifespan=lifespan)
        add_other_routes(server.router, context)
        if self.assistants:
            self.assistants.mount(server)
        _explain_errors(server)
        if space and space.sign_in:
            from .visitors import attach_sign_in

            add_rating_routes(server.router, context)  # to visitors who signed in
            attach_sign_in(server)
        with Blocks(mode="server") as blocks:
            pass
        shown = {"footer_links": [], "ssr_mode": False, "enable_monitoring": False}
        return mount_gradio_app(server, blocks, "/", app_kwargs=dict(NO_OTHER_ROUTES), **shown)

    @property
    def url(self) -> str:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        token = f"/?token={self.access.token}" if self.access.token else ""
        return f"http://{host}:{self.settings.port}{token}"

    def __enter__(self) -> "App":
        """Listens. Raises OSError: the port is taken."""
        # a fit holds the interpreter for as long as this at a time, and a request needs it several times
        sys.setswitchinterval(SWITCH_SECONDS)
        listener = _bound(self.settings.host, self.settings.port)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="server", daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.001)
        if self.keeper is not None:
            self.keeper.start(self.learner.forget)
        return self

    def __exit__(self, *error: Any) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=10)
        if self.assistants is not None:
            self.assistants.close()
        self.learner.close()
        if self.keeper is not None:
            self.keeper.close()
        self.store.close()


def _first(context: "Context", pages: dict[str, Path]) -> "FastAPI":
    """What is answered from the start: the pages, and unless visitors have to sign in before, all that rating takes."""
    from fastapi import FastAPI

    from .routes import add_rating_routes

    app = FastAPI(**NO_OTHER_ROUTES)
    space = context.settings.space
    if not (space and space.sign_in):
        add_rating_routes(app.router, context)
    for route, file in pages.items():
        app.add_api_route(route, _page(file), methods=["GET"], response_model=None)
    _explain_errors(app)
    return app


def _explain_errors(app: "FastAPI") -> None:
    from fastapi.exceptions import HTTPException, RequestValidationError
    from fastapi.responses import JSONResponse

    from .store import AnswerError, StoreError

    def say(status: int, text: str) -> JSONResponse:
        return JSONResponse({"error": text, "saved": False}, status)

    def invalid(request: Any, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return say(422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}.")

    handlers = app.exception_handlers
    handlers[HTTPException] = lambda request, error: say(error.status_code, str(error.detail))
    handlers[RequestValidationError] = invalid
    handlers[AnswerError] = lambda request, error: say(409 if "own id" in str(error) else 422, str(error))
    handlers[StoreError] = lambda request, error: say(507, str(error))


def _listening(app: Any) -> "uvicorn.Server":
    import uvicorn

    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on", ws="none"))


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: the port is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(f"--host {host} --port {port}: {why}. Choose another with --port.") from error


def serve(settings: AppSettings) -> None:
    """Runs the app until it is interrupted, and says where to open it once it answers."""
    app = App(settings)
    with contextlib.suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        with app:
            print(f"Open {app.url}", flush=True)
            print(f"Answers are kept in {app.store.path}", file=sys.stderr, flush=True)
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        print("Stopped. Every answer that was shown as saved is in the file.", file=sys.stderr)


def _assistants(store: Store, learner: Learner) -> "Assistants | None":
    """The tools for assistants; `None` where their package is missing, which the app does without."""
    try:
        from .assistants import Assistants

        return Assistants(store, learner)
    except ImportError:
        return None


def _interrupt(*_: Any) -> None:
    """As Ctrl-C does: what stops a service asks it by SIGTERM to end in order."""
    raise KeyboardInterrupt


def _page(file: Path) -> Any:
    from fastapi.responses import Response

    kind = KINDS[file.suffix]

    async def page() -> Response:
        return Response(file.read_bytes(), media_type=kind, headers={"cache-control": "no-cache"})

    return page
