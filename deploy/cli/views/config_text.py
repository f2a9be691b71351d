"""A configuration as a file again: every default stated, every port and base filled in, passwords left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from shared.configuration.model import Configuration
    from shared.settings import Settings

MIB = 1024**2
HIDDEN = "…"
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
OF_VLLM = ("max_loras", "max_lora_rank", "max_model_len", "max_num_seqs", "kv_cache_gib", "arguments")
Values = dict[str, Any]


def effective(configuration: Configuration, settings: Settings) -> Values:
    """What holds, as values that read back as the same configuration (but for what is hidden)."""
    values = configuration.model_dump(mode="json", by_alias=True, exclude_none=True)
    for name, anvil in values["anvils"].items():
        _anvil(anvil, configuration.anvils[name].free_below)
    for name, rune in values["runes"].items():
        rune["port"] = configuration.port_of(name, settings)
        if configuration.runes[name].command:
            unused = set(OF_VLLM) - configuration.runes[name].model_fields_set
            values["runes"][name] = rune = {key: value for key, value in rune.items() if key not in unused}
        else:
            rune.setdefault("base", settings.base)
        rune["env"] = {key: HIDDEN if SECRET.search(key) else value for key, value in rune["env"].items()}
    for queue in values["queues"].values():
        if "database" in queue:
            queue["database"] = without_password(queue["database"])
    return values


def _anvil(anvil: Values, free_below: int) -> None:
    if free_below % MIB == 0:
        anvil["free_below"] = f"{free_below // MIB}MiB"
    if anvil["accelerator"] == "cpu":
        del anvil["devices"]


def without_password(url: str) -> str:
    password = urlsplit(url).password
    shown = url.replace(f":{password}@", f":{HIDDEN}@", 1) if password else url
    return re.sub(r"(?<=[?&]password=)[^&]*", HIDDEN, shown)


def toml(values: Values) -> str:
    """The values as TOML: first what stands alone, then a table each, a table in a table by its dotted name."""
    return "\n".join(_lines((), values)).strip() + "\n"


def _lines(place: tuple[str, ...], values: Values) -> Iterator[str]:
    tables = {key: value for key, value in values.items() if _is_table(place, key, value)}
    plain = {key: value for key, value in values.items() if key not in tables}
    if place and plain:
        yield ""
        yield f"[{'.'.join(_key(word) for word in place)}]"
    yield from (f"{_key(key)} = {_value(value)}" for key, value in plain.items())
    for key, table in tables.items():
        yield from _lines((*place, key), table)


def _is_table(place: tuple[str, ...], key: str, value: Any) -> bool:
    """Variables of an engine stay in its table."""
    return isinstance(value, dict) and not (len(place) == 2 and key == "env")


def _key(word: str) -> str:
    return word if re.fullmatch(r"[A-Za-z0-9_-]+", word) else json.dumps(word)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    # Text, numbers, true and false are written alike in JSON; TOML only refuses DEL bare.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
