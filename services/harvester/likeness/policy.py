"""How alike two records must be before one of them counts as a near duplicate of the other."""

from __future__ import annotations

from pydantic import Field

from shared.contracts.frozen import Frozen


class LikenessPolicy(Frozen):
    """Two measures; either is enough. The defaults are calibrated: see docs/adr/0008-near-duplicates.md."""

    by_words: bool = Field(True, description="Compare by words: Jaccard over word 3-shingles, found by MinHash.")
    jaccard: float = Field(0.8, gt=0, le=1, description="Least Jaccard similarity of near duplicates. Default: 0.8.")
    by_meaning: bool = Field(True, description="Compare by meaning: cosine of the embeddings, where there are some.")
    cosine: float = Field(0.95, gt=0, le=1, description="Least cosine of near duplicates. Default: 0.95.")
