"""The app as one server: pages, JSON endpoints and pictures on a `gradio.Server`, which is a FastAPI application with
Gradio's queue, API clients, MCP and Space hosting (https://www.gradio.app/guides/server-mode)."""

import contextlib
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import BaseSource, default_store, features_file
from .keeping import Keeper
from .learner import Learner
from .pictures import PictureFolder
from .prompting import PromptRuns
from .security import Access, Guard
from .store import Store

if TYPE_CHECKING:
    from .assistants import Assistants
    from .space import Space

SWITCH_SECONDS = 0.001
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
        walking = ThreadPoolExecutor(1)  # a large folder is walked while gradio is imported
        walked = walking.submit(PictureFolder, settings.images)
        walking.shutdown(wait=False)
        try:
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
            from gradio import Server
        except ImportError as error:
            raise ImportError("The app needs gradio: pip install 'pamela_hf[app]'") from error
        from .routes import build_router
        from .routes.context import Context

        self.settings = settings
        path = Path(settings.store) if settings.store else default_store(settings.images)
        self.folder = walked.result()
        self.store = Store(path)
        source = BaseSource(settings.model, settings.encoder, features_file(path))
        self.learner = Learner(self.folder, source, self.store)
        runs = PromptRuns(path.with_suffix(".prompts"), settings.pipeline)
        pages = {("/" if file.stem == "index" else f"/pages/{file.name}"): file for file in sorted(PAGES.iterdir())}
        self.assistants = None if settings.space else _assistants(self.store, self.learner)
        own = (*pages, "/api/", "/images/", *(["/mcp"] if self.assistants else []))
        space = settings.space
        if space:
            self.access = Access.for_space(space.hosts, (*own, *space.paths))
        else:
            self.access = Access.for_host(settings.host, own)
        self.keeper = Keeper(self.store, settings.ratings) if settings.ratings else None
        context = Context(self.store, self.learner, runs, settings, self.keeper)
        self.server = Server(title="pamela", docs_url=None, redoc_url=None, openapi_url=None)
        self.server.router.redirect_slashes = False  # an address is one of ours or it is not
        self.server.include_router(build_router(context))
        for route, file in pages.items():
            self.server.add_api_route(route, _page(file), methods=["GET"], response_model=None)
        if self.assistants is not None:
            self.assistants.mount(self.server)
        self._explain_errors()
        if space and space.sign_in:
            from .visitors import attach_sign_in

            attach_sign_in(self.server)
        self.server.add_middleware(Guard, access=self.access)

    def _explain_errors(self) -> None:
        from fastapi.exceptions import HTTPException, RequestValidationError
        from fastapi.responses import JSONResponse

        from .store import AnswerError, StoreError

        def say(status: int, text: str) -> JSONResponse:
            return JSONResponse({"error": text, "saved": False}, status)

        def invalid(request: Any, error: RequestValidationError) -> JSONResponse:
            first = error.errors()[0]
            return say(422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}.")

        handlers = self.server.exception_handlers
        handlers[HTTPException] = lambda request, error: say(error.status_code, str(error.detail))
        handlers[RequestValidationError] = invalid
        handlers[AnswerError] = lambda request, error: say(409 if "own id" in str(error) else 422, str(error))
        handlers[StoreError] = lambda request, error: say(507, str(error))

    @property
    def url(self) -> str:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        token = f"/?token={self.access.token}" if self.access.token else ""
        return f"http://{host}:{self.settings.port}{token}"

    def __enter__(self) -> "App":
        """Listens. Raises OSError: the port is taken."""
        # a fit holds the interpreter for as long as this at a time, and a request needs it several times
        sys.setswitchinterval(SWITCH_SECONDS)
        self.server.launch(
            server_name=self.settings.host, server_port=self.settings.port, prevent_thread_lock=True, quiet=True,
            share=False, inbrowser=False, ssr_mode=False, enable_monitoring=False, footer_links=[], _frontend=False,
            app_kwargs={"lifespan": self.assistants.lifespan} if self.assistants else None,
        )  # fmt: skip
        if self.keeper is not None:
            self.keeper.start(self.learner.forget)
        self.learner.start()  # pictures can be rated before the model is loaded
        return self

    def __exit__(self, *error: Any) -> None:
        if self.server.blocks is not None:
            self.server.blocks.close(verbose=False)
        if self.assistants is not None:
            self.assistants.close()
        self.learner.close()
        if self.keeper is not None:
            self.keeper.close()
        self.store.close()


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
