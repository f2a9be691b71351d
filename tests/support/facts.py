"""Parts of facts that tests make up."""

from __future__ import annotations

from shared.contracts.forge import MaskAudit, ReplayFigures, SplitFigures, TrainingFigures

SPLIT = SplitFigures(
    rows=1, examples=1, tokens=9, trained_tokens=3, least_trained=3, longest=9, prompts={}, skipped={}, refused={}
)
TRAINING = TrainingFigures(
    steps=40,
    epochs=2.0,
    final_loss=1.2,
    dev_loss_before=2.5,
    dev_loss_after=1.25,
    seen_tokens=360,
    tokens_per_s=251.4,
    replay=ReplayFigures(cached=3, generated=1, tokens=40, wanted_tokens=36),
    mask_audit=MaskAudit(train=SPLIT, dev=SPLIT),
    adapter={},
    versions={},
)
#: The same, with too few answers of the base.
SHORT = TRAINING.model_copy(
    update={"replay": ReplayFigures(cached=2, generated=1, missing=4, tokens=30, wanted_tokens=70)}
)
