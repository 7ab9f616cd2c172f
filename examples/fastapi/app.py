"""FastAPI: typed answers, a stream that is sent while it is made, an upload that is read while it arrives."""

import asyncio

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/")
async def index(name: str = "world"):
    return {"hello": name}


@app.get("/ticks")
async def ticks(count: int = 5, pause: float = 0.2):
    async def lines():
        for number in range(count):
            yield f"data: tick {number}\n\n"
            await asyncio.sleep(pause)

    return StreamingResponse(lines(), media_type="text/event-stream")


@app.post("/upload")
async def upload(request: Request):
    size = pieces = 0
    async for piece in request.stream():
        size += len(piece)
        pieces += bool(piece)
    return {"size": size, "pieces": pieces}


@app.get("/wait")
async def wait(seconds: float = 1.0):
    await asyncio.sleep(seconds)
    return {"waited": seconds}
