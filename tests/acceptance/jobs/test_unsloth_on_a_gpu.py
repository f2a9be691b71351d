"""Unsloth's classes for a GPU, loaded without one: they have every argument by its name that the engine gives them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from shared.config.settings import PROJECT
from tests.support.model import UNSLOTH_PYTHON, needs_jobs, require_unsloth
from tests.support.training import planned

pytestmark = needs_jobs

# A name that a class lacks would vanish in its **kwargs, on the CPU's backend as on a GPU.
SCRIPT = """
import inspect, json, sys
from services.forge.trainer.engines import unsloth as engine
from services.forge.job import TrainerJob
import trl
from unsloth.models.rl import _patch_trl_rl_trainers
_patch_trl_rl_trainers("sft_trainer")  # done on import where there is a GPU
job = TrainerJob.model_validate_json(open(sys.argv[1]).read())
asked = {
    engine.FastLanguageModel.from_pretrained: engine.loading(job),
    engine.FastLanguageModel.get_peft_model: engine.adapting(job),
    trl.SFTConfig.__init__: engine.arguments(job, 1000),
    trl.SFTTrainer.__init__: dict.fromkeys(
        ("model", "args", "train_dataset", "eval_dataset", "processing_class", "peft_config", "callbacks")
    ),
}
unknown = [name for called, given in asked.items() for name in given.keys() - inspect.signature(called).parameters.keys()]
classes = [engine.FastLanguageModel.__module__, trl.SFTTrainer.__name__]
print("FOUND", json.dumps({"unknown": unknown, "given": sum(map(len, asked.values())), "classes": classes}))
"""


def test_the_classes_for_a_gpu_have_every_argument_that_the_engine_gives(tmp_path: Path) -> None:
    require_unsloth()
    job = tmp_path / "job.json"
    job.write_text(planned(tmp_path, "sha256:none", tmp_path, engine="unsloth").model_dump_json())
    environment = {
        **{"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"},
        **{
            "UNSLOTH_ALLOW_CPU": "1",
            "UNSLOTH_COMPILE_LOCATION": str(tmp_path / "compiled"),
            "UNSLOTH_DISABLE_STATISTICS": "1",
        },
    }
    command = [str(UNSLOTH_PYTHON), "-c", SCRIPT, str(job)]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith("FOUND"))[len("FOUND") :])
    assert found["unknown"] == []
    assert found["given"] > 40
    assert found["classes"] == ["unsloth.models.loader", "UnslothSFTTrainer"]
