-- What answers now, by persona: a row while some open engine answers for it, none while it is away. Every change is published
-- as `capability.announced` or `capability.withdrawn`. The rows of a gateway that was killed stay until the next start.
CREATE TABLE capability (
    persona       text PRIMARY KEY,
    model         text NOT NULL, -- what to ask for at the address; the same when another version serves
    version       text NOT NULL,
    adapter       text NOT NULL, -- its digest
    ritual        uuid NOT NULL, -- that made it
    base          text NOT NULL,
    context_limit int NOT NULL,  -- longest request in tokens
    address       text NOT NULL,
    announced_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
