"""Make a job of a request: rights, persona, base, recipe and files are checked before anything is stored."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic import ValidationError

from services.gateway.errors import Refusal
from services.gateway.files.store import LEAST_EXAMPLES
from services.gateway.jobs import store
from services.gateway.jobs.request import parse_request, refuse_field
from services.gateway.jobs.store import Event
from shared.config.errors import ConfigurationError
from shared.contracts.karma import PERSONA_PATTERN
from shared.contracts.message import ritual_id
from shared.contracts.scopes import Scope

if TYPE_CHECKING:
    from services.gateway.files.files import Files
    from services.gateway.files.store import StoredFile
    from services.gateway.jobs.request import JobRequest
    from services.gateway.jobs.store import Job
    from services.gateway.keys.client import Client
    from shared.config.model import Configuration
    from shared.storage.postgres import Pool

MOST_OPEN = 50  # jobs of one key that have not ended
LONGEST_IDEMPOTENCY_KEY = 255


async def create_job(
    pool: Pool,
    configuration: Configuration,
    files: Files,
    client: Client,
    fields: dict[str, Any],
    idempotency_key: str | None,
) -> Job:
    """Store the job of a request, or find the one that the same request made before. Raises Refusal."""
    client.require(Scope.TRAIN)
    assert client.key, "only a key has this scope"
    digest = _digest(fields)
    if known := await _find_repeated(pool, client.key, idempotency_key, digest):
        return known
    request = parse_request(fields)
    persona = _check_persona(request, client)
    _check_model(request, persona, configuration)
    _check_recipe(request, persona, configuration)
    for param in ("training_file", "validation_file"):
        if id := getattr(request, param):
            await _check_file(files, client, request, param, id)
    if await store.count_open(pool, client.key) >= MOST_OPEN:
        raise Refusal(429, "too_many_jobs", f"{MOST_OPEN} jobs of this key are under way: wait for one, or cancel one")
    job = _describe(request, persona, client) | {"body_digest": digest}
    async with pool.acquire() as conn, conn.transaction():
        inserted = await store.insert_job(conn, job, idempotency_key, _first_events(job))
    # Not inserted: the same request came twice at once.
    made = await store.get_job(pool, client.key, job["id"]) if inserted else None
    made = made or await _find_repeated(pool, client.key, idempotency_key, digest)
    assert made
    return made


def _digest(fields: dict[str, Any]) -> str:
    """What two equal requests have in common. Raises Refusal."""
    try:
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    except RecursionError:
        raise Refusal(400, "invalid_value", "the request is nested too deeply") from None


async def _find_repeated(pool: Pool, key: str, idempotency_key: str | None, digest: str) -> Job | None:
    if idempotency_key is None:
        return None
    if not 1 <= len(idempotency_key) <= LONGEST_IDEMPOTENCY_KEY or not idempotency_key.isprintable():
        message = f"Idempotency-Key must have 1 to {LONGEST_IDEMPOTENCY_KEY} printable characters"
        raise Refusal(400, "invalid_idempotency_key", message)
    known = await store.find_repeated(pool, key, idempotency_key)
    if known and known.body_digest != digest:
        message = f"this Idempotency-Key made {known.id} of another request: a new request needs a new one"
        raise Refusal(400, "idempotency_key_reused", message)
    return known


def _check_persona(request: JobRequest, client: Client) -> str:
    named = "metadata.persona" if (request.metadata or {}).get("persona") else "suffix"
    persona = request.persona
    if not persona:
        message = "name the persona that is to be trained in `metadata.persona`, or in `suffix`"
        raise Refusal(400, "missing_required_parameter", message, param="suffix")
    if not re.fullmatch(PERSONA_PATTERN, persona):
        message = f"`{named}` names the persona: lower-case letters, digits, - and _, 41 at most, a letter first"
        raise Refusal(400, "invalid_value", message, param=named)
    client.require(Scope.TRAIN, persona)
    return persona


def _check_model(request: JobRequest, persona: str, configuration: Configuration) -> None:
    bases, base = configuration.serving_runes(), configuration.base_of(persona)
    if request.model not in bases:
        message = f"there is no base {request.model!r}: a job begins at one of {', '.join(bases)}"
        raise Refusal(400, "model_not_found", message, param="model")
    if request.model != base:
        message = f"{persona} is trained on {base}: name that, or another persona"
        raise Refusal(400, "model_not_available", message, param="model")


def _check_recipe(request: JobRequest, persona: str, configuration: Configuration) -> None:
    within = f"method.{request.method.type}.hyperparameters" if request.method else "hyperparameters"
    try:
        if overrides := request.overrides:
            configuration.recipe(request.recipe, persona, overrides)
    except ValidationError as wrong:
        raise refuse_field(wrong, within) from None
    except ConfigurationError as wrong:
        raise Refusal(400, "invalid_value", str(wrong), param=within) from None


async def _check_file(files: Files, client: Client, request: JobRequest, param: str, id: str) -> None:
    file = await files.find(id, client)
    if file is None:
        raise Refusal(400, "file_not_found", f"`{param}`: there is no file {id} of this key", param=param)
    if trouble := find_trouble(file, param, preferences=request.learns_preferences):
        raise Refusal(400, "invalid_training_file", f"`{param}`: {id} cannot be used: {trouble}", param=param)


def find_trouble(file: StoredFile, param: str, *, preferences: bool) -> str | None:
    """Why a job, on `preferences` or on chats, cannot use a file; None where it can, and where it is not checked yet."""
    if file.trouble or file.examples is None or file.records is None:
        return file.trouble
    worse = file.records - file.examples  # each preference has its worse answer as a record besides
    if preferences and worse < file.examples:
        return 'it has chats, which have no worse answer: method "dpo" trains a file of preferences alone'
    if worse and not preferences:
        return 'it has preferences, which method "dpo" trains, and `soulforge karma import` takes'
    if param == "training_file" and file.examples < LEAST_EXAMPLES:
        return f"it has {file.examples} examples, and a training file needs {LEAST_EXAMPLES}"
    return None


def _describe(request: JobRequest, persona: str, client: Client) -> dict[str, Any]:
    id = f"ftjob-{uuid4().hex[:24]}"
    return {
        "id": id,
        "ritual": ritual_id(id),
        "key": client.key,
        "requested_by": client.name,
        "persona": persona,
        "model": request.model,
        "asked": request.model_dump(mode="json"),
        "seed": secrets.randbelow(2**31) if request.seed is None else request.seed,
        "training_file": request.training_file,
        "validation_file": request.validation_file,
        "vouched_by": client.name if client.has(Scope.CONSECRATE) else None,
    }


def _first_events(job: dict[str, Any]) -> list[Event]:
    files = " and ".join(filter(None, (job["training_file"], job["validation_file"])))
    return [
        Event("created", f"Created fine-tuning job: {job['id']}", data={"ritual": str(job["ritual"])}),
        Event("validating", f"Validating {files}"),
    ]
