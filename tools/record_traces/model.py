"""A scripted model: a local server with OpenAI's chat and Responses API and Anthropic's Messages API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tools.record_traces.scenario import Ask

Reply = Ask | str
ECHOED = ("instructions", "tools")  # what the Responses API repeats of a request


Respond = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]


@contextmanager
def serving(respond: Respond) -> Iterator[str]:
    """The base URL of a local server; `respond` maps the path and the body of a request to the status and body of its answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = respond(self.path, json.loads(self.rfile.read(int(self.headers["content-length"]))))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def scripted_model(script: tuple[Reply, ...]) -> Iterator[str]:
    """The base URL of a server that gives the replies in their order."""
    replies = enumerate(script, 1)

    def respond(path: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        number, scripted = next(replies)
        reply = API[path.rpartition("/")[2]](scripted) | {"id": f"reply_{number}"}
        return 200, reply | {name: asked[name] for name in ECHOED if name in asked and name in reply}

    with serving(respond) as url:
        yield url


def _chat(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply if isinstance(reply, str) else None}
    if isinstance(reply, Ask):
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for id, name, arguments in reply.calls
        ]
    reason = "tool_calls" if isinstance(reply, Ask) else "stop"
    return {
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def _responses(reply: Reply) -> dict[str, Any]:
    if isinstance(reply, Ask):
        output: list[dict[str, Any]] = [
            {
                "type": "function_call",
                "id": f"fc_{id}",
                "call_id": id,
                "name": name,
                "arguments": json.dumps(arguments),
                "status": "completed",
            }
            for id, name, arguments in reply.calls
        ]
    else:
        text = {"type": "output_text", "text": reply, "annotations": []}
        output = [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}]
    return {
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "scripted",
        "output": output,
        "instructions": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 1,
            "output_tokens": 1,
            "total_tokens": 2,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _messages(reply: Reply) -> dict[str, Any]:
    if isinstance(reply, Ask):
        content = [{"type": "tool_use", "id": id, "name": name, "input": given} for id, name, given in reply.calls]
    else:
        content = [{"type": "text", "text": reply}]
    return {
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": content,
        "stop_reason": "tool_use" if isinstance(reply, Ask) else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


API: dict[str, Callable[[Reply], dict[str, Any]]] = {
    "completions": _chat,
    "responses": _responses,
    "messages": _messages,
}
