"""Every error as JSON with one message; none as a stack trace."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from filters.core.errors import QueryError, StopRun, StoreError

logger = logging.getLogger("curate.serve")


class AbsentError(Exception):
    """Something that the request names and the store lacks."""


class BusyError(Exception):
    """More at once than this service does."""


class Problem(BaseModel):
    """What every answer with a status of 400 or more says."""

    error: str


# What any route may answer; the OpenAPI document names them.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": said}
    for code, said in {
        400: "the question can't be answered as it was asked",
        401: "no token",
        403: "from another site",
        404: "no such decision or sample",
        413: "the body is too large",
        415: "not JSON",
        421: "addressed to another name",
        422: "the request lacks something or has something unknown",
        503: "too many questions at once, or the store can't be read now",
    }.items()
}


def file_answer(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """What a route may answer that sends a file of one of these types."""
    return {**PROBLEMS, 200: {"content": {kind: {} for kind in kinds}, "description": "a file"}}


def add_handlers(app: FastAPI) -> None:
    """Makes the application answer with messages."""

    def handler(status: int) -> Any:
        def answer(_: Request, error: Exception) -> JSONResponse:
            return _problem(status, str(error))

        return answer

    app.add_exception_handler(AbsentError, handler(404))
    app.add_exception_handler(QueryError, handler(400))
    app.add_exception_handler(StoreError, handler(503))
    app.add_exception_handler(StopRun, handler(400))
    app.add_exception_handler(BusyError, handler(503))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _ours)


def _problem(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    said = error.errors() if isinstance(error, RequestValidationError) else []
    return _problem(422, "; ".join(_place(item["loc"]) + item["msg"] for item in said) or "invalid request")


def _place(location: Sequence[int | str]) -> str:
    named = ".".join(str(word) for word in location[1:])
    return f"{named}: " if named else ""


def _http(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    return _problem(error.status_code, str(error.detail), dict(error.headers or {}))


def _ours(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _problem(500, "a fault of ours; the service's log says more")
