"""Applications that show the form they got."""

from __future__ import annotations

from typing import Any

from flask import Flask, jsonify
from flask import request as flask_request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

flask_app = Flask("forms")


@flask_app.post("/")
def show() -> Any:
    file = flask_request.files.get("file")
    return jsonify(
        title=flask_request.form["title"],
        tags=flask_request.form.getlist("tags[]"),
        file=[file.filename, file.mimetype, len(file.read())] if file else None,
    )


async def show_async(request: Request) -> JSONResponse:
    form = await request.form()
    file: Any = form.get("file")
    shown = [file.filename, file.content_type, len(await file.read())] if file else None
    return JSONResponse({"title": form["title"], "tags": form.getlist("tags[]"), "file": shown})


starlette_app = Starlette(routes=[Route("/", show_async, methods=["POST"])])
