"""Find the records nearest to a vector, through the HNSW index of their embedding model; rows of other models are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pgvector.asyncpg import register_vector

from services.harvester.embedding.model import DIMS, MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from shared.storage.postgres import Connection

INDEXED = {MODEL: DIMS}  # models with an index of their own (see the migration)
WIDEST = 1000


@dataclass(frozen=True)
class Neighbour:
    """A record and its cosine with what was asked for, from -1 to 1."""

    karma: str
    likeness: float


async def use_vectors(conn: Connection) -> None:
    """Let this connection take and give vectors as arrays of numbers."""
    await register_vector(cast("asyncpg.Connection[asyncpg.Record]", conn))


async def nearest(conn: Connection, persona: str, model: str, vector: Sequence[float], limit: int) -> list[Neighbour]:
    """The `limit` records of a persona nearest to `vector`, the nearest first; fewer only when it has fewer.

    Approximate (HNSW, Malkov & Yashunin 2016); the scan goes on until enough rows of the persona were found
    (pgvector's `hnsw.iterative_scan`), at most `hnsw.max_scan_tuples`. Raises ValueError for a model without an index.
    """
    await use_vectors(conn)
    async with conn.transaction():
        await conn.execute("SET LOCAL hnsw.iterative_scan = strict_order")
        rows = await conn.fetch(nearest_sql(model), persona, vector, limit)
    return [Neighbour(row["id"], 1 - row["distance"]) for row in rows]


async def within(
    conn: Connection, persona: str, model: str, vector: Sequence[float], least_likeness: float
) -> list[Neighbour]:
    """The records of a persona whose cosine with `vector` is at least `least_likeness`, the most similar first.

    Asks for the nearest few and for more while all of them are like enough, up to WIDEST: a bound on the distance
    inside the query would make the index scan go on past the last row that is like enough.
    """
    limit = 50
    while True:
        found = await nearest(conn, persona, model, vector, limit)
        like = [one for one in found if one.likeness >= least_likeness]
        if len(like) < limit or limit >= WIDEST:
            return like
        limit = min(limit * 4, WIDEST)


def nearest_sql(model: str) -> str:
    """Persona, vector and limit are $1 to $3. The model is part of the text: a partial index needs it there."""
    if model not in INDEXED:
        raise ValueError(f"no index for embeddings of {model!r}; known: {', '.join(INDEXED)}")
    typed = f"vector({INDEXED[model]})"
    return (
        f"SELECT id, embedding::{typed} <=> $2::{typed} AS distance FROM vectors.karma "
        f"WHERE embedding_model = '{model}' AND persona = $1 ORDER BY embedding::{typed} <=> $2::{typed} LIMIT $3"
    )
