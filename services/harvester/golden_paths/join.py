"""What of a record is read, compared and written, in SQL: its golden path where it has one, else its own messages.

One join for everybody, so that what is judged is what is trained. `k` is vectors.karma.
"""

from __future__ import annotations

GOLDEN = "LEFT JOIN harvester.golden_path g ON g.karma = k.id AND g.trace_id = k.trace_id AND g.messages IS NOT NULL"
MESSAGES = "coalesce(g.messages, k.messages)"
TOOLS = "(CASE WHEN g.messages IS NULL THEN k.tools ELSE g.tools END)"
CHECKS = "(k.outcome -> 'checks')"
