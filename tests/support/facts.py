"""Parts of facts that tests make up."""

from __future__ import annotations

from shared.contracts.forge import (
    CheckpointFigures,
    EngineChoice,
    MaskAudit,
    MemoryFigures,
    Provenance,
    ReplayFigures,
    SplitFigures,
    TrainingFigures,
)

MIB = 1024**2
SPLIT = SplitFigures(
    rows=1, examples=1, tokens=9, trained_tokens=3, least_trained=3, longest=9, prompts={}, skipped={}, refused={}
)
DIGESTS = dict.fromkeys(
    ("manifest", "base", "tokenizer", "template", "recipe", "examples", "code", "lock"), "sha256:" + "0" * 64
)
PROVENANCE = Provenance(**DIGESTS, seed=0, device="a CPU, 2 threads", python="3.11.2")
TRAINING = TrainingFigures(
    steps=40,
    epochs=2.0,
    final_loss=1.2,
    dev_loss_before=2.5,
    dev_loss_after=1.25,
    dev_examples=1,
    checkpoints=(CheckpointFigures(step=40, loss=1.2, dev_loss=1.25),),
    seen_tokens=360,
    tokens_per_s=251.4,
    memory=MemoryFigures(
        rows=8,
        length=9,
        checkpointing=False,
        terms={"weights": 300 * MIB, "logits": 200 * MIB},
        idle=500 * MIB,
        peak=900 * MIB,
    ),
    replay=ReplayFigures(cached=3, generated=1, tokens=40, wanted_tokens=36),
    mask_audit=MaskAudit(train=SPLIT, dev=SPLIT),
    adapter={},
    choice=EngineChoice(engine="trl", why="the recipe names it"),
    versions={},
    provenance=PROVENANCE,
)
#: The same, with too few answers of the base.
SHORT = TRAINING.model_copy(
    update={"replay": ReplayFigures(cached=2, generated=1, missing=4, tokens=30, wanted_tokens=70)}
)
