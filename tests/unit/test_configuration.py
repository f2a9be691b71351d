"""`soulforge.toml`: examples that load, defaults that hold, and faults that are told with place, reason and line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from shared.config.load import ConfigurationError, find, load, read
from shared.config.model import (
    AnvilConfig,
    BusConfig,
    Configuration,
    CovenConfig,
    DockerConfig,
    JobsConfig,
    RuneConfig,
    SaqConfig,
    TippingConfig,
    embedded,
)
from shared.config.settings import PROJECT, Settings, SettingsError

EXAMPLES = sorted((PROJECT / "examples" / "soulforge").glob("*.toml"))
HOUSE = """\
forge = "gpu0"
[anvils.gpu0]
accelerator = "nvml"
[runes.chat]
[runes.ears]
[covens.hearth]
anvil = "gpu0"
runes = ["chat", "ears"]
"""


@pytest.fixture(autouse=True)
def _empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANVIL", "CONFIG", "BASE", "HOST", "PORT_BASE", "HOME"):
        monkeypatch.delenv(f"SOULFORGE_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def loaded(text: str, settings: Settings) -> Configuration:
    path = Path("soulforge.toml")
    path.write_text(text)
    return read(path, settings)


def refusal(text: str, settings: Settings) -> str:
    with pytest.raises(ConfigurationError) as refused:
        loaded(text, settings)
    return str(refused.value)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads(path: Path, settings: Settings) -> None:
    configuration = read(path, settings)
    assert configuration.serving(settings) in configuration.runes_of(configuration.forge)


def test_there_is_an_example_for_each_deployment() -> None:
    assert [path.stem for path in EXAMPLES] == ["embedded", "gpu", "podman", "two-anvils"]


def test_the_embedded_example_is_what_stands_there_without_a_file(settings: Settings) -> None:
    assert read(PROJECT / "examples/soulforge/embedded.toml", settings) == embedded() == load(settings)


def test_every_field_is_set_and_explained_in_an_example(settings: Settings) -> None:
    found: dict[type[BaseModel], set[str]] = {}
    for path in EXAMPLES:
        configuration = read(path, settings)
        explained = _explained(path)
        tables = [configuration, configuration.tipping, configuration.jobs, configuration.docker]
        tables += [*configuration.anvils.values(), *configuration.runes.values()]
        tables += [*configuration.covens.values(), *configuration.queues.values()]
        for table in tables:
            named = {type(table).model_fields[name].alias or name for name in table.model_fields_set}
            found.setdefault(type(table), set()).update(named & explained)
    for kind in (
        AnvilConfig, RuneConfig, CovenConfig, SaqConfig, BusConfig, TippingConfig, JobsConfig, DockerConfig,
    ):  # fmt: skip
        fields = {field.alias or name for name, field in kind.model_fields.items()}
        assert found[kind] == fields, kind.__name__
    assert {name for path in EXAMPLES for name in tomllib.loads(path.read_text())} == Configuration.model_fields.keys()


def _explained(path: Path) -> set[str]:
    """The keys whose line has a comment."""
    return set(re.findall(r"^(\w+) = .*#", path.read_text(), re.MULTILINE))


def test_the_built_in_house_is_what_the_orchestrator_ran_until_now() -> None:
    anvil, rune = embedded().anvils["anvil0"], embedded().runes["rune"]
    assert (anvil.accelerator, anvil.devices, anvil.free_below, anvil.free_within_s) == ("cpu", (0,), 256 * 1024**2, 20)
    assert (rune.stop_grace_s, rune.start_within_s, rune.max_loras, rune.max_lora_rank) == (15, 300, 4, 16)
    assert (rune.max_model_len, rune.max_num_seqs, rune.kv_cache_gib) == (2048, 16, 1)


def test_the_named_file_goes_before_the_home_and_the_home_before_the_working_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    settings = Settings(home=home)
    assert find(settings) is None
    (tmp_path / "soulforge.toml").write_text(HOUSE)
    assert find(settings) == tmp_path / "soulforge.toml"
    (home / "soulforge.toml").write_text(HOUSE)
    assert find(settings) == home / "soulforge.toml"
    assert find(Settings(home=home, config=Path("mine.toml"))) == tmp_path / "mine.toml"


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text(HOUSE)
    monkeypatch.setenv("SOULFORGE_CONFIG", "mine.toml")
    assert load(Settings()).forge == "gpu0"


def test_a_named_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no configuration at .*mine\.toml: name another"):
        load(Settings(config=tmp_path / "mine.toml"))


def test_a_folder_and_bytes_that_are_no_text_are_refused(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "bytes.toml"):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            read(path, settings)


def test_a_file_that_only_says_how_the_house_is_shared_keeps_the_built_in_one(settings: Settings) -> None:
    configuration = loaded('[tipping]\npolicy = "idle"\n', settings)
    assert configuration.tipping.policy == "idle"
    assert configuration.runes == embedded().runes and configuration.anvils == embedded().anvils


def test_the_built_in_anvil_has_the_name_that_the_environment_gives(tmp_path: Path) -> None:
    settings = Settings(anvil="other")
    assert load(settings).forge == "other" and loaded("[tipping]", settings).forge == "other"
    with pytest.raises(ConfigurationError, match='SOULFORGE_ANVIL is "A B": a name is'):
        load(Settings(anvil="A B"))
    assert 'forge: is "gpu0", but SOULFORGE_ANVIL says "other"' in refusal(HOUSE, settings)


def test_the_serving_rune_has_the_houses_place_and_further_ones_the_next_free(settings: Settings) -> None:
    text = HOUSE.replace("[runes.chat]", "[runes.first]\nport = 7611\norder = 2\n[runes.chat]").replace(
        '["chat", "ears"]', '["first", "ears", "chat"]'
    )
    configuration = loaded(text, settings)
    assert configuration.serving(settings) == "chat"
    assert configuration.ports(settings) == {"first": 7611, "chat": 7610, "ears": 7612}
    assert configuration.rune_url(settings) == "http://127.0.0.1:7610"
    assert configuration.rune_url(settings, "ears") == "http://127.0.0.1:7612"


def test_the_built_in_rune_answers_at_the_tenth_port(settings: Settings) -> None:
    assert embedded().rune_url(settings) == "http://127.0.0.1:7610"


def test_the_serving_rune_is_the_first_to_start_on_the_forge_with_the_houses_base(settings: Settings) -> None:
    text = HOUSE.replace("[runes.chat]", '[runes.chat]\nbase = "other"').replace(
        "[runes.ears]", "[runes.ears]\norder = 5"
    )
    assert loaded(text, settings).serving(settings) == "ears"
    assert loaded(text.replace("other", settings.base), settings).serving(settings) == "chat"


def test_a_foreign_command_takes_adapters_only_where_it_says_how_many(settings: Settings) -> None:
    text = HOUSE.replace("[runes.chat]", '[runes.chat]\ncommand = ["engine"]')
    assert loaded(text, settings).serving(settings) == "ears"
    text = text.replace('["engine"]', '["engine"]\nmax_loras = 2')
    assert loaded(text, settings).serving(settings) == "chat"


def test_no_two_runes_without_a_port_get_the_same_one_or_one_of_the_houses(settings: Settings) -> None:
    names = [f"r{number}" for number in range(17)]
    configuration = loaded(_many(names[:16]), settings)
    ports = configuration.ports(settings).values()
    assert len(set(ports)) == 16
    assert not set(ports) & {7600, 7601, 7602, 7603, 7604, 7620, 7621, 7622, 7623, 7624, 7625}
    assert "runes.r16.port: the house's row of ports is full" in refusal(_many(names), settings)


def _many(names: list[str]) -> str:
    tables = "\n".join(f"[runes.{name}]" for name in names)
    return f"[anvils.anvil0]\n{tables}\n[covens.all]\nanvil = 'anvil0'\nrunes = {names}\n"


@pytest.mark.parametrize(
    ("given", "instead", "told"),
    [
        ('forge = "gpu0"', 'forge = "gpu1"', 'forge: there is no anvil "gpu1"; did you mean "gpu0"?'),
        ('forge = "gpu0"\n', "", 'forge: there is no anvil "anvil0"; known: gpu0'),
        (
            'anvil = "gpu0"',
            'anvil = "gp0"',
            'covens.hearth.anvil: there is no anvil "gp0"; did you mean "gpu0"?',
        ),
        (
            '["chat", "ears"]',
            '["chat", "ers"]',
            'covens.hearth.runes[1]: there is no rune "ers"; did you mean "ears"?',
        ),
        (
            '["chat", "ears"]',
            '["chat"]',
            "runes.ears: stands in no coven: add it to the `runes` of one, or take it out",
        ),
        (
            '"ears"]',
            '"ears", "chat"]',
            'covens.hearth.runes[2]: rune "chat" already stands in coven "hearth"; it can stand in one only',
        ),
        (
            '"ears"]',
            '"ears"]\nqueues = ["q"]',
            'covens.hearth.queues[0]: there is no queue "q"; there are none',
        ),
        (
            "[runes.chat]",
            "[queues.q]\ndriver = 'bus'\nworkers = ['w']\n[runes.chat]",
            "queues.q: no coven names it: add it to the `queues` of one, or take it out",
        ),
        (
            "[anvils.gpu0]",
            "[anvils.spare]\n[anvils.gpu0]",
            "anvils.spare: no coven stands on it: name it in one, or take it out",
        ),
        (
            'accelerator = "nvml"',
            "devices = [1]",
            'anvils.gpu0.devices: a CPU anvil has none: set accelerator = "nvml"',
        ),
        (
            'accelerator = "nvml"',
            'accelerator = "nvml"\ndevices = [0, 0]',
            'anvils.gpu0.devices[1]: GPU 0 already belongs to anvil "gpu0": anvils are leased apart',
        ),
        (
            "[runes.ears]",
            "[runes.ears]\ndriver = 'docker'",
            'runes.ears.image: is required with driver = "docker"',
        ),
        (
            "[runes.ears]",
            "[runes.ears]\nimage = 'vllm'",
            'runes.ears.image: the process driver runs no image: set driver = "docker", or take this out',
        ),
        (
            "[runes.ears]",
            "[runes.ears]\ncommand = ['x']\narguments = ['y']",
            "runes.ears.arguments: only vLLM gets them: put them into `command`",
        ),
        (
            "[runes.ears]",
            "[runes.ears]\nmax_lora_rank = 12",
            "runes.ears.max_lora_rank: vLLM takes 1, 8, 16, 32, 64, 128, 256, 320, 512, not 12",
        ),
        ("[runes.ears]", "[runes.ears]\nport = 7610", 'runes.ears.port: 7610 is the port of rune "chat"'),
        (
            "[runes.chat]",
            "[runes.chat]\nport = 7602",
            "runes.chat.port: 7602 is the port of the house's postgres",
        ),
        (
            "[runes.chat]",
            "[jobs]\ndriver = 'docker'\n[runes.chat]",
            'jobs.image: is required with driver = "docker"',
        ),
        (
            "[runes.chat]",
            "[docker]\nhost = '/run/docker.sock'\n[runes.chat]",
            "docker.host: must start with one of unix://, tcp://, ssh://",
        ),
        ("[runes.chat]", "[tipping]\npolicy = 'window'\n[runes.chat]", "tipping: policy window needs windows"),
        (
            "[runes.chat]",
            "[tipping]\ntimezone = 'Europe/Berln'\n[runes.chat]",
            "tipping.timezone: time zone 'Europe/Berln' is not known",
        ),
        (
            "[runes.chat]",
            "[runes.chat]\ngrace_s = -1",
            "runes.chat.grace_s: Input should be greater than or equal to 0",
        ),
        (
            "[runes.chat]",
            "[runes.chat]\ngrce_s = 1",
            'runes.chat.grce_s: unknown key; did you mean "grace_s"?',
        ),
        (
            "[runes.chat]",
            "[runes.Chat]",
            "runes.Chat: a name is up to 41 of a-z, 0-9, _ and -, and starts with a letter or digit",
        ),
        (
            "[runes.chat]",
            "[queues.q]\ndriver = 'sqs'\n[runes.chat]",
            "queues.q.driver: must be one of 'saq', 'bus'",
        ),
        (
            "[runes.chat]",
            "[queues.q]\ndriver = 'saq'\nschem = 'x'\n[runes.chat]",
            'queues.q.schem: unknown key; did you mean "schema"?',
        ),
        ("[runes.chat]", "[queues.q]\ndriver = 'saq'\n[runes.chat]", "queues.q.names: is required"),
        ("[runes.chat]", "[queues.q]\n[runes.chat]", "queues.q.driver: is required"),
        ("[runes.chat]", "[tiping]\n[runes.chat]", 'tiping: unknown key; did you mean "tipping"?'),
        (
            "accelerator = ",
            "devices = [-1]\naccelerator = ",
            "anvils.gpu0.devices[0]: Input should be greater than or equal to 0",
        ),
    ],
    ids=lambda value: None,
)
def test_a_fault_is_told_with_its_place_its_reason_and_its_line(
    given: str, instead: str, told: str, settings: Settings
) -> None:
    assert given in HOUSE
    assert told in refusal(HOUSE.replace(given, instead, 1), settings)


def test_the_house_itself_is_right(settings: Settings) -> None:
    assert loaded(HOUSE, settings).forge == "gpu0"


def test_sleep_is_refused_on_a_cpu(settings: Settings) -> None:
    text = HOUSE.replace("[runes.chat]", "[runes.chat]\nevacuation = 'sleep'")
    assert loaded(text, settings).runes["chat"].evacuation == "sleep"
    said = refusal(text.replace("nvml", "cpu"), settings)
    assert said.endswith("runes.chat.evacuation: sleep frees nothing on a CPU anvil: use stop")


def test_a_gpu_belongs_to_one_anvil(settings: Settings) -> None:
    more = "[anvils.gpu1]\naccelerator = 'nvml'\ndevices = [1, 0]\n[runes.far]\n[covens.far]\nanvil = 'gpu1'\nrunes = ['far']\n"
    text = HOUSE + more
    assert 'anvils.gpu1.devices[1]: GPU 0 already belongs to anvil "gpu0"' in refusal(text, settings)
    assert loaded(text.replace("[1, 0]", "[1, 2]"), settings).runes_of("gpu1").keys() == {"far"}
    # A CPU anvil has no GPU, whatever the default of `devices` is.
    assert loaded(text.replace("'nvml'\ndevices = [1, 0]", "'cpu'"), settings)


def test_a_rune_in_two_covens_is_refused(settings: Settings) -> None:
    text = HOUSE + "[covens.second]\nanvil = 'gpu0'\nrunes = ['ears']\n"
    assert 'covens.second.runes[0]: rune "ears" already stands in coven "hearth"' in refusal(text, settings)


def test_a_forge_without_a_rune_for_the_houses_base_is_refused(settings: Settings) -> None:
    text = HOUSE.replace("[runes.chat]", "[runes.chat]\nbase = 'x'").replace(
        "[runes.ears]", "[runes.ears]\ncommand = ['y']"
    )
    assert f'forge: no rune on "gpu0" serves the base {settings.base} and takes adapters' in refusal(text, settings)


def test_all_faults_are_named_at_once_each_by_its_key(settings: Settings) -> None:
    text = HOUSE.replace("[runes.ears]", "[runes.ears]\nimage = 'a'").replace(
        "[anvils", "[docker]\nhost = 'x'\n[anvils"
    )
    lines = refusal(text.replace("[runes.chat]", "[runes.chat]\nmax_lora_rank = 9"), settings).splitlines()
    assert lines[0] == "soulforge.toml has 3 faults:"
    assert [line.strip().partition(":")[0] for line in lines[1:]] == [
        "runes.chat.max_lora_rank", "runes.ears.image", "docker.host",
    ]  # fmt: skip


def test_what_is_no_toml_is_told_with_line_and_column(settings: Settings) -> None:
    assert "soulforge.toml is not TOML: Invalid value (at line 2, column 15)" in refusal(
        "[anvils.gpu0]\naccelerator = nvml\n", settings
    )


def test_a_value_that_may_be_secret_is_not_repeated(settings: Settings) -> None:
    text = HOUSE.replace("[runes.chat]", "[runes.chat]\nenv = { API_KEY = 917263 }")
    said = refusal(text, settings)
    assert "runes.chat.env.API_KEY: Input should be a valid string" in said and "917263" not in said
