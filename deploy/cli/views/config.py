"""A configuration as tables, and as a file again: every default stated, passwords left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.cli.format import duration
from shared.config.tables import EMBEDDED_BASE

if TYPE_CHECKING:
    from shared.config.model import BusConfig, Configuration, RuneConfig, SaqConfig
    from shared.config.settings import Settings


def config_view(configuration: Configuration, settings: Settings) -> RenderableType:
    parts: list[RenderableType] = [_anvils(configuration), Text(""), _runes(configuration, settings)]
    if configuration.queues:
        parts += [Text(""), _queues(configuration)]
    if configuration.bases:
        parts += [Text(""), _bases(configuration)]
    return Group(*parts, Text(""), _policy(configuration))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name == "grace" else "left", overflow="fold")
    return table


def _anvils(configuration: Configuration) -> Table:
    table = _table("anvil", "memory", "free below", "runes, as they start", "")
    for name, anvil in configuration.anvils.items():
        gpus = f"GPU {', '.join(map(str, anvil.devices))}"
        table.add_row(
            name,
            gpus if anvil.accelerator == "nvml" else "RSS of the runes",
            f"{anvil.free_below.human_readable()} in {duration(anvil.free_within_s)}",
            ", ".join(configuration.runes_of(name)),
            "trains" if name == configuration.forge else "only serves",
        )
    return table


def _runes(configuration: Configuration, settings: Settings) -> Table:
    table = _table("rune", "anvil", "runs", "listens on", "serves", "adapters", "leaves by", "grace")
    serving = {name for names in configuration.serving_runes().values() for name in names}
    ports = configuration.ports(settings)
    for name, rune in configuration.runes.items():
        table.add_row(
            name,
            configuration.anvil_of(name),
            rune.image or ("command" if rune.command else "process"),
            str(ports.get(name, "its socket")),
            rune.base_name or "",
            f"{rune.max_loras}, rank to {rune.max_lora_rank}" if name in serving else "none",
            _evacuation(rune),
            duration(rune.grace_s),
        )
    return table


def _evacuation(rune: RuneConfig) -> str:
    return f"sleep, level {rune.sleep_level}" if rune.evacuation == "sleep" else "stop"


def _queues(configuration: Configuration) -> Table:
    table = _table("queues", "anvils", "driver", "who", "grace")
    for name, queue in configuration.queues.items():
        anvils = [coven.anvil for coven in configuration.covens.values() if name in coven.queues]
        table.add_row(name, ", ".join(dict.fromkeys(anvils)), queue.driver, _who(queue), duration(queue.grace_s))
    return table


def _bases(configuration: Configuration) -> Table:
    table = _table("base", "folder", "personas trained on it")
    for name, base in configuration.bases.items():
        personas = [persona for persona, decided in configuration.personas.items() if decided.base == name]
        others = ["all others"] if name == configuration.base_of() else []
        table.add_row(name, str(base.path), ", ".join([*personas, *others]))
    return table


def _who(queue: SaqConfig | BusConfig) -> str:
    return ", ".join(queue.names if queue.driver == "saq" else queue.workers)


def _policy(configuration: Configuration) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("takes the anvil", _when(configuration))
    table.add_row("jobs", configuration.jobs.image or "processes of this machine")
    if "docker" in (configuration.jobs.driver, *(rune.driver for rune in configuration.runes.values())):
        table.add_row("engine", configuration.docker.host)
    return table


def _when(configuration: Configuration) -> str:
    tipping = configuration.tipping
    text = {
        "immediate": "at once",
        "idle": f"after {duration(tipping.idle_for_s)} with at most {tipping.busy_above:g} requests a minute",
        "window": f"in {', '.join(tipping.windows)} ({tipping.timezone})",
    }[tipping.policy]
    if tipping.away_budget_s is not None:
        text += f"; at most {duration(tipping.away_budget_s)} without inference a day"
    if tipping.refuse_after_s is not None:
        text += f"; refused after {duration(tipping.refuse_after_s)}"
    return text


HIDDEN = "…"
# What TOML refuses bare (DEL), and what the console would show by an escape that TOML lacks.
ESCAPED = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0xAD)}
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
VLLM_KEYS = ("max_loras", "max_lora_rank", "max_model_len", "max_num_seqs", "kv_cache_gib", "arguments")
Values = dict[str, Any]


def effective_values(configuration: Configuration, settings: Settings) -> Values:
    """The configuration in effect, as values that load as the same configuration (but for what is hidden)."""
    values = configuration.model_dump(mode="json", by_alias=True, exclude_none=True)
    ports = configuration.ports(settings)
    for anvil in values["anvils"].values():
        if anvil["accelerator"] == "cpu":
            del anvil["devices"]
    for name, rune in values["runes"].items():
        if name in ports:
            rune["port"] = ports[name]
        if configuration.runes[name].command:
            unused = set(VLLM_KEYS) - configuration.runes[name].model_fields_set
            values["runes"][name] = rune = {key: value for key, value in rune.items() if key not in unused}
        else:
            rune.setdefault("base", EMBEDDED_BASE)
        rune["env"] = {key: HIDDEN if SECRET.search(key) else value for key, value in rune["env"].items()}
    for queue in values["queues"].values():
        if "database" in queue:
            queue["database"] = without_password(queue["database"])
    return values


def without_password(url: str) -> str:
    password = urlsplit(url).password
    shown = url.replace(f":{password}@", f":{HIDDEN}@", 1) if password else url
    return re.sub(r"(?<=[?&]password=)[^&]*", HIDDEN, shown)


def to_toml(values: Values) -> str:
    """Write the values as TOML: plain values first, then each table, a nested one by its dotted name."""
    return "\n".join(_lines((), values)).strip() + "\n"


def _lines(path: tuple[str, ...], values: Values) -> Iterator[str]:
    tables = {key: value for key, value in values.items() if _is_table(path, key, value)}
    plain = {key: value for key, value in values.items() if key not in tables}
    if path and plain:
        yield ""
        yield f"[{'.'.join(_key(part) for part in path)}]"
    yield from (f"{_key(key)} = {_value(value)}" for key, value in plain.items())
    for key, table in tables.items():
        yield from _lines((*path, key), table)


def _is_table(path: tuple[str, ...], key: str, value: Any) -> bool:
    """Whether the value is a table of its own; an empty one and the environment of a rune are inline."""
    return isinstance(value, dict) and bool(value) and not (len(path) == 2 and key == "env")


def _key(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    # Text, numbers, true and false are written alike in JSON.
    return json.dumps(value, ensure_ascii=False).translate(ESCAPED)
