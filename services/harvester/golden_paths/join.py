"""What of a record is read, compared and written, in SQL: its golden path where it has one, else its own messages.

One join for everybody, so that what is judged is what is trained. `k` is vectors.karma.
"""

from __future__ import annotations

GOLDEN = "LEFT JOIN harvester.golden_path g ON g.karma = k.id AND g.trace_id = k.trace_id AND g.messages IS NOT NULL"
MESSAGES = "coalesce(g.messages, k.messages)"
# Some instrumentations record the calls and not the tools.
TOOLS = "(CASE WHEN g.messages IS NULL OR g.tools = '[]' THEN k.tools ELSE g.tools END)"
ABOUT = (
    "jsonb_build_object('id', k.id, 'session', k.session, 'source', k.source, 'licence', k.licence, 'kind', k.kind, 'why', k.why, "
    "'outcome', k.outcome, 'consecrated_by', k.consecrated_by)"
)  # what else a row may show
CHECKS = "(k.outcome -> 'checks')"
