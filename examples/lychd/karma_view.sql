-- LychD's own `karma` table as Soulforge reads it: view = "soulforge_karma.records" in [harvest].
--
-- A row of LychD is a memory, not yet a conversation. It becomes one
--   * by `meta.messages`: OpenAI-style messages, used as they are;
--   * by `meta.prompt`:   the prompt, answered by `content` (after `meta.system` where there is one).
-- A note or fact with neither has no prompt: it belongs in retrieval, not in weights, and is left out.
--
-- Other keys of `meta`:  persona · consecrated_by, consecrated_at (who vouches) · revoked (true) · corrects (id of the
-- row that this one corrects) · outcome · why · licence · purposes · tools · trace_id · embedding_model.
-- A `mistake` is never a white truth; it is the parent of the row that corrects it.
-- All ids are prefixed, so that they differ from ids of other sources.
CREATE SCHEMA IF NOT EXISTS soulforge_karma;

CREATE OR REPLACE VIEW soulforge_karma.records AS
SELECT
    'lychd-' || k.id                                            AS id,
    coalesce(k.meta ->> 'persona', 'lychd')                     AS persona,
    CASE
        WHEN jsonb_typeof(k.meta -> 'messages') = 'array' THEN k.meta -> 'messages'
        ELSE
            CASE WHEN k.meta ? 'system'
                THEN jsonb_build_array(jsonb_build_object('role', 'system', 'content', k.meta ->> 'system'))
                ELSE '[]'::jsonb
            END
            || jsonb_build_array(
                jsonb_build_object('role', 'user', 'content', k.meta ->> 'prompt'),
                jsonb_build_object('role', 'assistant', 'content', k.content)
            )
    END                                                         AS messages,
    CASE
        WHEN k.meta @> '{"revoked": true}' THEN 'revoked'
        WHEN k.kind <> 'mistake' AND coalesce(k.meta ->> 'consecrated_by', '') <> '' THEN 'white_truth'
        ELSE 'speculative'
    END                                                         AS status,
    CASE WHEN jsonb_typeof(k.meta -> 'outcome') = 'object' THEN k.meta -> 'outcome' END AS outcome,
    coalesce(k.meta ->> 'why', '')                              AS why,
    k.meta ->> 'consecrated_by'                                 AS consecrated_by,
    -- A time that is none must not break the view for every other row.
    CASE WHEN pg_input_is_valid(k.meta ->> 'consecrated_at', 'timestamptz')
        THEN (k.meta ->> 'consecrated_at')::timestamptz
    END                                                         AS consecrated_at,
    'lychd-' || coalesce(k.session_id, k.run_id, k.id)          AS session,
    'lychd-' || (k.meta ->> 'corrects')                         AS parent,
    'lychd'::text                                               AS source,
    coalesce(k.meta ->> 'licence', 'owner')                     AS licence,
    k.kind::text                                                AS kind,
    CASE WHEN jsonb_typeof(k.meta -> 'tools') = 'array' THEN k.meta -> 'tools' END AS tools,
    CASE WHEN jsonb_typeof(k.meta -> 'purposes') = 'array'
        THEN ARRAY(SELECT jsonb_array_elements_text(k.meta -> 'purposes'))
    END                                                         AS purposes,
    CASE k.kind WHEN 'mistake' THEN 'down' WHEN 'preference' THEN 'up' END AS feedback,
    k.meta ->> 'trace_id'                                       AS trace_id,
    -- LychD does not fix the model of its embeddings: one of an unnamed model cannot be compared and is computed again.
    CASE WHEN k.meta ? 'embedding_model' THEN k.embedding END   AS embedding,
    CASE WHEN k.embedding IS NOT NULL THEN k.meta ->> 'embedding_model' END AS embedding_model,
    k.created_at                                                AS created_at
FROM public.karma AS k
WHERE jsonb_typeof(k.meta -> 'messages') = 'array' OR coalesce(k.meta ->> 'prompt', '') <> '';

-- The harvester reads this view and nothing else of LychD's; the view reads the table as its owner.
GRANT USAGE ON SCHEMA soulforge_karma TO soulforge_harvester;
GRANT SELECT ON soulforge_karma.records TO soulforge_harvester;
