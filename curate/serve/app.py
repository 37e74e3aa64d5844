"""The application: routes, guard, messages, and the explorer's own files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from fastapi import FastAPI
from fastapi.responses import Response

from curate import __version__
from curate.serve.errors import PROBLEMS, AbsentError, add_handlers
from curate.serve.routes import decisions, groups, images, recipes, samples, signals, sql, subsets
from curate.serve.security import App, Door, Guard
from curate.serve.settings import Service

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
DESCRIPTION = (
    "The quality metadata of a Curate store: every sample with its signals and verdict. "
    "A decision is named by its ledger; a condition is a range, some texts, or a missing value."
)


def make_app(service: Service, door: Door = Door()) -> App:  # noqa: B008  (frozen)
    """The whole application, guarded."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.sql.close()

    app = FastAPI(
        title="Curate",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses=PROBLEMS,
    )
    app.state.service = service
    add_handlers(app)
    for module in (decisions, signals, samples, groups, images, sql, recipes, subsets):
        app.include_router(module.router, prefix="/api")
    _add_pages(app)
    return Guard(app, door)


def _add_pages(app: FastAPI) -> None:
    """The explorer's files, read once: no path of a request reaches the file system."""
    pages = {name: (content, TYPES[name.rpartition(".")[2]]) for name, content in web_files().items()}

    @app.get("/", include_in_schema=False)
    def index() -> Response:
        content, kind = pages["index.html"]
        return Response(content, media_type=kind)

    @app.get("/web/{name:path}", include_in_schema=False)
    def page(name: str) -> Response:
        if name not in pages:
            msg = f"there is no page {name!r}"
            raise AbsentError(msg)
        content, kind = pages[name]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})


def web_files() -> dict[str, bytes]:
    """Name below `curate/serve/web` -> content."""
    found: dict[str, bytes] = {}
    folder = files("curate") / "serve" / "web"
    for item in folder.iterdir():
        if item.is_dir():
            found |= {f"{item.name}/{inner.name}": inner.read_bytes() for inner in item.iterdir()}
        elif item.name.rpartition(".")[2] in TYPES:
            found[item.name] = item.read_bytes()
    return found
