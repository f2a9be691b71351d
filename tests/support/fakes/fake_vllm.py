"""A small server that speaks the part of vLLM that Soulforge uses, and fails on demand.

    python -m tests.support.fakes.fake_vllm --uds SOCKET|--port N [--served-model-name NAME] [whatever else vLLM takes]

Up in about a second, no torch. Answers are greedy in this sense: a model always answers a prompt with the same words,
and another model with others. An adapter must be a directory. What it gets wrong stands in `vllm_faults.Faults`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.fakes.vllm_answers import logprobs, words
from tests.support.fakes.vllm_faults import MIB, faults, leave_a_child, respawn, started_before


class Engine:
    """The state of one server: its models, its work, its memory."""

    def __init__(self, base: str, restarted: bool) -> None:
        self.base = base
        self.restarted = restarted
        self.adapters: dict[str, str] = {}
        self.running = self.finished = 0
        self.asleep = self.paused = False
        self._ballast = b""
        self.take_memory()

    def take_memory(self) -> None:
        self._ballast = b"\x01" * (faults().memory_mib * MIB)

    def free_memory(self) -> None:
        self._ballast = b"" if not faults().keep_memory else self._ballast

    def words(self, model: str, prompt: str, count: int) -> list[str]:
        """The answer: a hash of model, prompt and salt, as words."""
        now = faults()
        salt = now.salt + ("restarted" if now.salt_after_restart and self.restarted else "")
        return words(model, prompt, count, salt)

    async def hang(self) -> None:
        """Hold a request for as long as the fault is on, whatever the client or the server do meanwhile."""
        self.running += 1
        while faults().hang:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
        self.running -= 1

    async def generate(self, words: list[str]) -> AsyncIterator[str]:
        self.running += 1
        try:
            for place, word in enumerate(words):
                await asyncio.sleep(faults().token_s)
                yield f" {word}" if place else word
            self.finished += 1
        finally:
            self.running -= 1


def engine_of(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def health(request: Request) -> Response:
    return Response(status_code=503 if faults().never_healthy else 200)


async def models(request: Request) -> Response:
    engine = engine_of(request)
    cards = [{"id": engine.base, "object": "model", "root": engine.base, "parent": None}]
    cards += [
        {"id": name, "object": "model", "root": path, "parent": engine.base} for name, path in engine.adapters.items()
    ]
    return JSONResponse({"object": "list", "data": cards})


async def metrics(request: Request) -> Response:
    engine = engine_of(request)
    label = f'engine="0",model_name="{engine.base}"'
    running = faults().stuck_running or engine.running
    lines = (
        "# TYPE vllm:num_requests_running gauge",
        f"vllm:num_requests_running{{{label}}} {running}.0",
        "# TYPE vllm:num_requests_waiting gauge",
        f"vllm:num_requests_waiting{{{label}}} 0.0",
        "# TYPE vllm:request_success_total counter",
        f'vllm:request_success_total{{{label},finished_reason="length"}} {engine.finished}.0',
        f'vllm:request_success_total{{{label},finished_reason="stop"}} 0.0',
    )
    return PlainTextResponse("\n".join(lines) + "\n")


async def complete(request: Request) -> Response:
    engine, asked = engine_of(request), await request.json()
    model = asked.get("model") or engine.base
    if model != engine.base and model not in engine.adapters:
        return refuse(404, f"The model `{model}` does not exist.", "NotFoundError")
    if faults().answers_500 or engine.asleep:
        return refuse(500, "the fake engine fails on demand", "InternalServerError")
    if not is_valid(asked, request.url.path):
        return refuse(400, "1 validation error", "Bad Request")
    if faults().exits_at_answer:
        os._exit(3)
    await engine.hang()
    chat = request.url.path.endswith("/chat/completions")
    prompt = json.dumps(asked["messages"], sort_keys=True) if chat else asked["prompt"]
    words = engine.words(model, prompt, asked.get("max_tokens") or 16)
    if not chat:
        return await unless_gone(request, plain(model, engine.generate(words)))
    if asked.get("stream"):
        return StreamingResponse(events(model, engine.generate(words)), media_type="text/event-stream")
    scores = logprobs(words) if asked.get("logprobs") else None
    return await unless_gone(request, whole(model, engine.generate(words), scores))


def is_valid(asked: dict[str, Any], path: str) -> bool:
    """Whether it takes a request; vLLM is stricter."""
    messages, tokens, streamed = asked.get("messages"), asked.get("max_tokens"), asked.get("stream")
    if not path.endswith("/chat/completions"):
        return (
            isinstance(asked.get("prompt"), str)
            and isinstance(tokens, int | None)
            and (streamed is None or streamed is False)
        )
    return (
        isinstance(messages, list)
        and all(isinstance(message, dict) for message in messages)
        and isinstance(tokens, int | None)
        and isinstance(streamed, bool | None)
    )


async def unless_gone(request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
    """The answer, or nothing when the client leaves before, which vLLM waits for in the same way."""
    work, gone = asyncio.ensure_future(answer), asyncio.ensure_future(left(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else Response(status_code=499)
    finally:
        work.cancel()
        gone.cancel()


async def left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def whole(model: str, words: AsyncIterator[str], scores: dict[str, Any] | None) -> Response:
    text = "".join([word async for word in words])
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": faults().finish, "logprobs": scores}
    return JSONResponse(answered("chat.completion", model, choice))


async def plain(model: str, words: AsyncIterator[str]) -> Response:
    text = " " + "".join([word async for word in words])
    return JSONResponse(
        answered("text_completion", model, {"index": 0, "text": text, "finish_reason": faults().finish})
    )


async def events(model: str, words: AsyncIterator[str]) -> AsyncIterator[str]:
    async for word in words:
        choice: dict[str, Any] = {"index": 0, "delta": {"content": word}, "finish_reason": None}
        yield f"data: {json.dumps(answered('chat.completion.chunk', model, choice))}\n\n"
    last = {"index": 0, "delta": {}, "finish_reason": faults().finish}
    yield f"data: {json.dumps(answered('chat.completion.chunk', model, last))}\n\n"
    yield "data: [DONE]\n\n"


def answered(kind: str, model: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-fake", "object": kind, "created": int(time.time()), "model": model, "choices": [choice]}


async def load_adapter(request: Request) -> Response:
    engine, asked = engine_of(request), await request.json()
    name, path = asked["lora_name"], asked["lora_path"]
    if faults().exits_at_load:
        os._exit(3)
    if faults().no_adapters:
        return refuse(500, "the fake engine loads no adapters on demand", "InternalServerError")
    if name in engine.adapters:
        return refuse(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
    if not Path(path).is_dir():
        return refuse(404, f"No adapter found for {path}", "NotFoundError")
    engine.adapters[name] = path
    return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")


async def unload_adapter(request: Request) -> Response:
    engine, name = engine_of(request), (await request.json())["lora_name"]
    if engine.adapters.pop(name, None) is None:
        return refuse(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
    return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")


async def sleep(request: Request) -> Response:
    engine = engine_of(request)
    engine.asleep = True
    engine.free_memory()
    return JSONResponse({"status": "sleeping", "level": int(request.query_params.get("level", "1"))})


async def wake_up(request: Request) -> Response:
    engine = engine_of(request)
    engine.asleep = False
    engine.take_memory()
    return JSONResponse({"status": "awake", "tags": None})


async def nothing_to_do(request: Request) -> Response:
    return JSONResponse({"results": []})


async def no_route(request: Request, error: Exception) -> Response:
    """As FastAPI answers, and so vLLM where its model lacks a route."""
    return JSONResponse({"detail": "Not Found"}, 404)


def refuse(status: int, message: str, kind: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


ROUTES = (
    Route("/health", health),
    Route("/v1/models", models),
    Route("/metrics", metrics),
    Route("/v1/chat/completions", complete, methods=["POST"]),
    Route("/v1/completions", complete, methods=["POST"]),
    Route("/v1/load_lora_adapter", load_adapter, methods=["POST"]),
    Route("/v1/unload_lora_adapter", unload_adapter, methods=["POST"]),
    Route("/sleep", sleep, methods=["POST"]),
    Route("/wake_up", wake_up, methods=["POST"]),
    Route("/collective_rpc", nothing_to_do, methods=["POST"]),
    Route("/reset_prefix_cache", nothing_to_do, methods=["POST"]),
)


class Server(uvicorn.Server):
    """Leaves as vLLM does: at SIGTERM the work ends, and with it the server."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        if sig == signal.SIGTERM and faults().ignore_sigterm:
            return
        super().handle_exit(sig, frame)


async def serve(socket: str | None, port: int, base: str, restarted: bool) -> None:
    now = faults()
    app = Starlette(routes=ROUTES, exception_handlers={404: no_route})
    app.state.engine = Engine(base, restarted)
    await asyncio.sleep(now.start_s)
    server = Server(
        uvicorn.Config(
            app, port=port, uds=socket, log_level="warning", timeout_graceful_shutdown=1, timeout_keep_alive=30
        )
    )
    if now.exit_after_s:
        asyncio.get_running_loop().call_later(now.exit_after_s, lambda: os._exit(3))
    await server.serve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uds")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name", default="base")
    said, _ = parser.parse_known_args()
    now = faults()
    if now.respawn and "FAKE_VLLM_RESPAWNED" not in os.environ:
        respawn()
    if now.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if now.child_mib:
        leave_a_child(now.child_mib, now.child_detached)
    asyncio.run(serve(said.uds, said.port, said.served_model_name, started_before()))


if __name__ == "__main__":
    main()
