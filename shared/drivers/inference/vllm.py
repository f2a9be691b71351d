"""vLLM behind its OpenAI-compatible server, with adapters loaded at run time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from shared.drivers.inference.http import Http
from shared.drivers.inference.port import Activity, InferenceError, PromptMessage, TokenChoice

HEALTH_TIMEOUT_S = 2.0
LOAD_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 120.0
SLEEP_TIMEOUT_S = 300.0
LIKELIEST = 5  #: tokens at each place whose log-probabilities are asked
ABSENT = frozenset({404, 405})
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
FINISHED = "vllm:request_success_total"


class Vllm:
    """One vLLM server, at `http://…` or `unix:///…`. Who reaches it commands it: it must listen on a private address."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = Http(url)

    async def healthy(self) -> bool:
        try:
            return (await self._http.ask("GET", "/health", timeout=HEALTH_TIMEOUT_S)).is_success
        except InferenceError:
            return False

    async def models(self) -> frozenset[str]:
        listed = await self._http.call("GET", "/v1/models", timeout=HEALTH_TIMEOUT_S)
        return frozenset(model["id"] for model in listed["data"])

    async def load(self, name: str, path: Path) -> None:
        if name in await self.models():
            return
        # No load_inplace: it makes the worker read the adapter from disk again and again.
        body = {"lora_name": name, "lora_path": str(path)}
        await self._http.call("POST", "/v1/load_lora_adapter", body, LOAD_TIMEOUT_S)

    async def unload(self, name: str) -> None:
        if name in await self.models():
            await self._http.call("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    async def answer(
        self, model: str, messages: tuple[PromptMessage, ...], max_tokens: int, salt: str | None = None
    ) -> str:
        choice = await self._chat(model, messages, max_tokens, {"cache_salt": salt} if salt else {})
        return choice["message"]["content"] or ""

    async def answer_tokens(
        self, model: str, messages: tuple[PromptMessage, ...], max_tokens: int
    ) -> tuple[TokenChoice, ...]:
        asked = {"logprobs": True, "top_logprobs": LIKELIEST, "return_tokens_as_token_ids": True}
        # Some bases bring a penalty of repetition as their default, with which an answer is not greedy.
        choice = await self._chat(model, messages, max_tokens, {**asked, "repetition_penalty": 1.0})
        try:
            return tuple(
                TokenChoice(likeliest={_token_id(one["token"]): one["logprob"] for one in place["top_logprobs"]})
                for place in choice["logprobs"]["content"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InferenceError(f"{self.url} does not return log-probabilities of its tokens: {error!r}") from error

    async def _chat(
        self, model: str, messages: tuple[PromptMessage, ...], max_tokens: int, more: dict[str, Any]
    ) -> dict[str, Any]:
        """The only choice of a greedy answer; `more` are further fields of the request."""
        body = {
            "model": model,
            "messages": [message.model_dump() for message in messages],
            "max_tokens": max_tokens,
            "temperature": 0.0,
            **more,
        }
        answered = await self._http.call("POST", "/v1/chat/completions", body, ANSWER_TIMEOUT_S)
        choice: dict[str, Any] = answered["choices"][0]
        return choice

    async def activity(self) -> Activity:
        metrics = _read_metrics(await self._http.call("GET", "/metrics"))
        return Activity(running=metrics[RUNNING], waiting=metrics[WAITING], finished_total=metrics[FINISHED])

    async def sleep(self, level: int) -> None:
        await self._develop(f"/sleep?level={level}&mode=wait")

    async def wake(self, level: int) -> None:
        await self._develop("/wake_up")
        if level > 1:
            # The weights were dropped: they are read from disk again, and no cached prefix may outlive them.
            await self._http.call("POST", "/collective_rpc", {"method": "reload_weights"}, SLEEP_TIMEOUT_S)
            await self._http.call("POST", "/reset_prefix_cache", timeout=SLEEP_TIMEOUT_S)

    async def _develop(self, path: str) -> None:
        """Call a development route, which vLLM has only where it was started with them."""
        response = await self._http.ask("POST", path, timeout=SLEEP_TIMEOUT_S)
        if response.status_code in ABSENT:
            raise InferenceError(
                f"{self.url} cannot sleep: start it with VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode"
            )
        if response.is_error:
            raise self._http.refusal(response)


def _token_id(text: str) -> int:
    return int(text.removeprefix("token_id:"))


def _read_metrics(text: str) -> Counter[str]:
    """Parse the three metrics by name. Raises InferenceError where one is missing: unknown is not zero."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(_lines_of_interest(text)):
        for sample in family.samples:
            found[sample.name] += int(sample.value)
    if missing := {RUNNING, WAITING, FINISHED} - found.keys():
        raise InferenceError(
            f"the engine's metrics lack {', '.join(sorted(missing))}: start it without --disable-log-stats"
        )
    return found


def _lines_of_interest(text: str) -> str:
    """Filter before parsing: the page has hundreds of lines, and a drain reads it ten times a second."""
    return "\n".join(
        line for line in text.splitlines() if line.startswith((f"{RUNNING}{{", f"{WAITING}{{", f"{FINISHED}{{"))
    )
