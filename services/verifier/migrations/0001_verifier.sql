-- The looks at sealed holdouts, in order: which sessions carried the verdict of a ritual, and whether that showed learning.
-- A further attempt at the same ritual is no further look. The level of a look follows from those before it (looks.py).
CREATE TABLE look (
    ritual    uuid PRIMARY KEY REFERENCES public.ritual (id),
    number    bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    persona   text NOT NULL,
    sessions  text[] NOT NULL,
    learned   boolean, -- NULL: no verdict came of it; it counts as one that showed nothing
    looked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX look_of_persona ON look (persona, number);
