"""An upstream that answers at once: `python -m bench.gateway.stub SOCKET`. What is measured through it is the gateway's own cost."""

from __future__ import annotations

import asyncio
import json
import sys

BASE = "base"
CHUNKS = 16
USAGE = {"prompt_tokens": 5, "completion_tokens": CHUNKS, "total_tokens": 5 + CHUNKS}
MODELS = {"object": "list", "data": [{"id": BASE, "object": "model"}]}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "word " * CHUNKS}, "finish_reason": "stop"}
WHOLE = {"id": "stub", "object": "chat.completion", "model": BASE, "choices": [CHOICE], "usage": USAGE}
PART = {"id": "stub", "model": BASE, "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
EVENT = b"data: " + json.dumps(PART).encode() + b"\n\n"


def answer(body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


ANSWERS = {b"/v1/models": answer(MODELS), b"/v1/chat/completions": answer(WHOLE)}
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
            body = await reader.readexactly(int(length.partition(b":")[2]))
            if b'"stream":true' in body:
                writer.write(EVENTS)
                for _ in range(CHUNKS):
                    writer.write(chunk(EVENT))
                    await asyncio.sleep(0)
                writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            else:
                writer.write(ANSWERS[head.split(b" ", 2)[1]])
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(socket: str) -> None:
    server = await asyncio.start_unix_server(serve, socket)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
