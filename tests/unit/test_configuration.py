"""`soulforge.toml`: examples that load, defaults that hold, and faults that are told with place, reason and line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from deploy.services import SECTIONS, load_configuration
from services.forge.settings import ForgeSettings
from services.harvester.settings import HarvesterSettings
from services.registry.settings import RegistrySettings
from services.verifier.settings import VerifierSettings
from shared.config.errors import ConfigurationError
from shared.config.load import find
from shared.config.load import read as read_with
from shared.config.model import (
    AnvilConfig,
    BusConfig,
    Configuration,
    CovenConfig,
    RuneConfig,
    SaqConfig,
    embedded,
)
from shared.config.settings import PROJECT, Settings, SettingsError
from shared.config.tables import (
    EMBEDDED_BASE,
    BaseConfig,
    DockerConfig,
    JobsConfig,
    PersonaConfig,
    PruneConfig,
    RuntimeConfig,
)
from shared.config.tipping import TippingConfig

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
    for name in ("CONFIG", "HOST", "PORT_BASE", "HOME"):
        monkeypatch.delenv(f"SOULFORGE_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def load(settings: Settings) -> Configuration:
    return load_configuration(settings)


def read(path: Path, settings: Settings) -> Configuration:
    return read_with(path, settings, SECTIONS)


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
    assert configuration.serving_rune() in configuration.runes_of(configuration.forge)


def test_there_is_an_example_for_each_deployment() -> None:
    assert [path.stem for path in EXAMPLES] == ["embedded", "gpu", "podman", "policies", "two-anvils"]


@pytest.mark.parametrize("name", ["embedded", "policies"])
def test_an_example_of_defaults_is_the_configuration_without_a_file(name: str, settings: Settings) -> None:
    example, built_in = read(PROJECT / f"examples/soulforge/{name}.toml", settings), load(settings)

    assert example.runes["rune"].base_name == built_in.runes["rune"].base_name
    runes = {"rune": example.runes["rune"].model_copy(update={"base": None})}
    assert example.model_copy(update={"runes": runes}) == built_in


def test_every_key_is_set_or_shown_and_explained_in_an_example(settings: Settings) -> None:
    """A key is explained by the comment on its line; one whose default is computed is shown in a comment itself."""
    missing: dict[str, set[str]] = {}
    explained = set().union(*(_explained(path) for path in EXAMPLES))
    for kind in (*KINDS, *SECTIONS):
        for table, fields in _tables(kind):
            if lacking := fields - explained:
                missing[table] = lacking
    assert missing == {}
    shown = "\n".join(path.read_text() for path in EXAMPLES)
    sections = {f"[{table}]" for kind in SECTIONS for table, _ in _tables(kind, kind.table)}
    assert {table for table in sections if table not in shown} == set()
    assert {name for path in EXAMPLES for name in tomllib.loads(path.read_text())} | {"suites", "recipes"} == {
        *Configuration.model_fields, *(kind.table for kind in SECTIONS),
    }  # fmt: skip


KINDS = (
    AnvilConfig, RuneConfig, CovenConfig, SaqConfig, BusConfig, TippingConfig, JobsConfig, DockerConfig, BaseConfig,
    PersonaConfig, PruneConfig, RuntimeConfig,
)  # fmt: skip


def _tables(kind: type[BaseModel], name: str = "") -> Iterator[tuple[str, set[str]]]:
    """A table and those in it, each with its plain keys."""
    inner = {
        key: model
        for key, field in kind.model_fields.items()
        for model in (
            get_args(field.annotation) or (field.annotation,)
        )  # one that may be left out is a union with None
        if isinstance(model, type) and issubclass(model, BaseModel)
    }
    keys = {field.alias or key for key, field in kind.model_fields.items()}
    yield name or kind.__name__, keys - inner.keys()
    for key, model in inner.items():
        yield from _tables(model, f"{name}.{key}")


def _explained(path: Path) -> set[str]:
    """The keys whose line has a comment."""
    return set(re.findall(r"^(?:# )?(\w+) = .*#", path.read_text(), re.MULTILINE))


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
    with pytest.raises(SettingsError, match=r"there is no file .*mine\.toml: name another"):
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


def test_an_engine_listens_on_a_socket_and_a_foreign_one_without_it_on_the_next_free_port(settings: Settings) -> None:
    foreign = 'command = ["x", "{port}"]\n'
    text = HOUSE.replace(
        "[runes.chat]", f"[runes.first]\n{foreign}port = 7611\n[runes.own]\ncommand = ['x', '{{socket}}']\n[runes.chat]"
    )
    text = text.replace("[runes.ears]", f"[runes.ears]\n{foreign}").replace(
        '["chat", "ears"]', '["first", "own", "ears", "chat"]'
    )
    configuration = loaded(text, settings)
    assert configuration.serving_rune() == "chat"
    assert configuration.ports(settings) == {"first": 7611, "ears": 7610}
    assert configuration.rune_url(settings) == f"unix://{settings.engine_socket('chat')}"
    assert configuration.rune_url(settings, "own") == f"unix://{settings.engine_socket('own')}"
    assert configuration.rune_url(settings, "ears") == "http://127.0.0.1:7610"


BASES = """\
[bases.large]
path = "models/large"
[bases.small]
path = "/srv/small"
"""


def test_a_persona_is_trained_on_its_base_and_answered_by_the_rune_that_serves_it(settings: Settings) -> None:
    text = HOUSE.replace("[runes.chat]", "[runes.chat]\nbase = 'large'\nmax_lora_rank = 64").replace(
        "[runes.ears]", "[runes.ears]\norder = 5\nbase = 'small'\n" + BASES
    )
    configuration = loaded(text + "[personas.coder]\nbase = 'small'\n", settings)

    assert configuration.serving_runes() == {"large": ("chat",), "small": ("ears",)}
    assert (configuration.base_of("scribe"), configuration.serving_rune("scribe")) == ("large", "chat")
    assert (configuration.base_of("coder"), configuration.serving_rune("coder")) == ("small", "ears")
    assert (configuration.max_lora_rank("scribe"), configuration.max_lora_rank("coder")) == (64, 16)
    assert configuration.bases["large"].path == Path.cwd() / "models/large"
    assert configuration.bases["small"].path == Path("/srv/small")


def test_adapters_go_to_every_rune_of_their_base_on_any_anvil_and_the_training_anvil_s_come_first(
    settings: Settings,
) -> None:
    first = "[anvils.gpu1]\n[runes.also]\nbase = 'large'\nmax_lora_rank = 8\n[runes.other]\nbase = 'small'\n"
    more = f"{BASES}{first}[covens.annexe]\nanvil = 'gpu1'\nrunes = ['also', 'other']\n"
    configuration = loaded(HOUSE.replace("[runes.chat]", "[runes.chat]\nbase = 'large'") + more, settings)

    assert configuration.serving_runes() == {"large": ("chat", "also"), EMBEDDED_BASE: ("ears",)}
    assert configuration.max_lora_rank("scribe") == 8, "what one of them refuses is not trained"


def test_without_a_declaration_the_embedded_base_is_served_and_trained_on(settings: Settings) -> None:
    assert load(settings).serving_runes() == {EMBEDDED_BASE: ("rune",)}
    assert load(settings).base_of("anyone") == EMBEDDED_BASE


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("[personas.coder]\nbase = 'larg'", 'no rune on "gpu0" serves the base "larg" and takes adapters; did you mean "large"?'),
        ("[personas.coder]\nbase = 'small'", 'personas.coder.base: no rune on "gpu0" serves the base "small"'),
        ("[personas.Coder]\nbase = 'large'", "personas.Coder: the name of a persona must match"),
        ("[personas.coder]\npromotion = 'approved'", "personas.coder.promotion: Input should be 'automatic' or 'approval'"),
        ("[personas.coder]\naway = 'portal'", "personas.coder: away = \"portal\" sends what its clients write"),
        ("[personas.coder]\naway = 'portal'\nleaves_home = true", "personas.coder.away: there is no portal"),
        ("[personas.large]\nbase = 'large'", "personas.large: is the name of a base, which answers to it already"),
        ("[personas.smollm2-135m-instruct]\nbase = 'large'", "personas.smollm2-135m-instruct: is the name of a base"),
        ("[bases.other]", "bases.other.path: is required"),
        ("[bases.other]\npath = 'x'\npth = 'x'", 'bases.other.pth: unknown key; did you mean "path"?'),
    ],
)  # fmt: skip
def test_a_persona_whose_base_no_rune_of_the_training_anvil_serves_is_refused(
    more: str, told: str, settings: Settings
) -> None:
    text = HOUSE.replace("[runes.", "[runes.").replace("[runes.ears]", "[runes.ears]\nbase = 'large'\n" + BASES)
    text = text.replace("[runes.chat]", "[runes.chat]\nbase = 'large'")
    assert told in refusal(f"{text}\n{more}\n", settings)


def test_a_rune_with_an_unknown_base_is_refused(settings: Settings) -> None:
    text = HOUSE.replace("[runes.chat]", "[runes.chat]\nbase = 'smal'\n" + BASES)
    assert 'runes.chat.base: there is no base "smal"; did you mean "small"?' in refusal(text, settings)


PORTAL = "[gateway.portal]\nkey_file = 'k'\nmodel = 'm'\ndaily_tokens = 1\n"


def test_the_tables_of_services_are_in_the_same_file_with_their_defaults(settings: Settings) -> None:
    text = (
        "[training]\nmemory = '20GiB'\n[evaluation.verdict.suites.general]\nmargin = 0.02\n[harvest.split]\ndev = 0.1\n"
    )
    configuration = loaded(text, settings)

    assert configuration.section(ForgeSettings).memory == 20 * 1024**3
    assert configuration.section(VerifierSettings).verdict.suites["general"].margin == 0.02
    assert configuration.section(HarvesterSettings).policy.split.dev == 0.1
    assert configuration.section(RegistrySettings) == RegistrySettings()
    assert embedded().section(ForgeSettings) == ForgeSettings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[trainig]", 'trainig: unknown key; did you mean "training"?'),
        ("[training]\nmemry = 1", 'training.memry: unknown key; did you mean "memory"?'),
        ("[evaluation.verdict]\nmin_gian = 1", 'evaluation.verdict.min_gian: unknown key; did you mean "min_gain"?'),
        ("[harvest]\nlicences = 3", "harvest.licences: Input should be a valid tuple"),
        ("[harvest.split]\nholdout = 2", "harvest.split.holdout: Input should be less than 0.9"),
        ("[harvest.redaction]\nsecrets = 'keep'", "harvest.redaction.secrets: Input should be 'quarantine' or 'redact'"),
        ("[harvest.prompts]\nfull = 0.7\nshort = 0.7", "harvest.prompts: full and short together are more than all rows"),
        ("[harvest]\nview = 'karma'", "harvest.view: String should match pattern"),
        ("[serving]\non_recall = 'forget'", "serving.on_recall: Input should be 'warn'"),
        ("[auto_trigger]\nrearm_share = 1", "auto_trigger.rearm_share: Input should be less than 1"),
        ("[runtime]\nlog_level = 'LOUD'", "runtime.log_level: Input should be 'DEBUG'"),
        (f"{PORTAL}url = 'https://例え.jp/v1'", "gateway.portal.url: must be plain ASCII"),
        (f"{PORTAL}url = 'https://a b/v1'", "gateway.portal.url: must be plain ASCII"),
        (f"{PORTAL}url = 'http://example.com/v1'", "gateway.portal.url: must begin with https://"),
        (f"{PORTAL}url = 'https://key@example.com/v1'", "gateway.portal.url: must be an address like"),
        (f"{PORTAL}url = 'https://example.com/v1'\ndaily = 1", "gateway.portal.daily: unknown key"),
        ("[jobs]\nimage_python = 'x'", "jobs.image_python: the process driver runs no image"),
        ("[jobs.unsloth]\nimage = 'x'", "jobs.unsloth.image: the process driver runs no image"),
    ],
)  # fmt: skip
def test_a_fault_in_the_table_of_a_service_has_the_same_message(text: str, told: str, settings: Settings) -> None:
    assert f"soulforge.toml: {told}" in refusal(text + "\n", settings)


def test_a_foreign_command_takes_adapters_only_where_it_says_how_many(settings: Settings) -> None:
    text = HOUSE.replace("[runes.chat]", '[runes.chat]\ncommand = ["engine"]')
    assert loaded(text, settings).serving_rune() == "ears"
    text = text.replace('["engine"]', '["engine"]\nmax_loras = 2')
    assert loaded(text, settings).serving_rune() == "chat"


def test_no_two_runes_without_a_port_get_the_same_one_or_one_of_the_houses(settings: Settings) -> None:
    names = [f"r{number}" for number in range(17)]
    configuration = loaded(_many(names[:16]), settings)
    ports = configuration.ports(settings).values()
    assert len(set(ports)) == 16
    assert not set(ports) & {7600, 7601, 7602, 7603, 7604, 7620, 7621, 7622, 7623, 7624, 7625}
    assert "runes.r16.port: Soulforge's row of ports is full" in refusal(_many(names), settings)


def _many(names: list[str]) -> str:
    tables = "\n".join(f"[runes.{name}]\ncommand = ['x']\nmax_loras = 1" for name in names)
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
            "runes.ears: is in no coven: add it to the `runes` of one, or take it out",
        ),
        (
            '"ears"]',
            '"ears", "chat"]',
            'covens.hearth.runes[2]: rune "chat" is already in coven "hearth"; it can be in one only',
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
            "anvils.spare: no coven uses it: name it in one, or take it out",
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
        (
            "[runes.ears]",
            "[runes.mouth]\ncommand = ['x']\nport = 9000\n[covens.noise]\nanvil = 'gpu0'\nrunes = ['mouth']\n"
            "[runes.ears]\ncommand = ['x']\nport = 9000",
            'runes.ears.port: 9000 is the port of rune "mouth"',
        ),
        (
            "[runes.ears]",
            "[runes.ears]\nport = 8000",
            "runes.ears.port: it listens on a Unix socket, which only Soulforge reaches: take this out",
        ),
        (
            "[runes.ears]",
            "[runes.ears]\ncommand = ['x', '{socket}', '{port}']",
            "runes.ears.command: it listens on {socket} or on {host} and {port}: name one of them",
        ),
        (
            "[runes.chat]",
            "[runes.chat]\ncommand = ['x']\nport = 7603",
            "runes.chat.port: 7603 is the port of Soulforge's phoenix",
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
        (
            "[runes.chat]",
            "[queues.q]\ndriver = 'saq'\nnames = ['a']\ndatabase = 'postgresql://u:p@h/d'\n[runes.chat]",
            "queues.q.database: PostgreSQL is reached by TLS or by its socket",
        ),
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


def test_the_owner_s_recipes_are_checked_with_the_file_that_names_their_folder(settings: Settings) -> None:
    folder = settings.home / "my-recipes"
    settings.home.mkdir()
    (settings.home / "soulforge.toml").write_text('recipes = "my-recipes"')
    with pytest.raises(ConfigurationError, match="my-recipes is not a folder"):
        load_configuration(settings)

    folder.mkdir()
    (folder / "mine.toml").write_text("r = 8\nepochs = 7")
    (folder / "wide.toml").write_text("r = 64")
    assert load_configuration(settings).recipe("mine", "scribe").epochs == 7
    with pytest.raises(ConfigurationError, match="takes at most 16"):
        load_configuration(settings).recipe("wide", "scribe")

    (folder / "odd.toml").write_text("use_dora = true")
    with pytest.raises(ConfigurationError, match=r"odd\.toml[^$]*use_dora"):
        load_configuration(settings)


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
    assert 'covens.second.runes[0]: rune "ears" is already in coven "hearth"' in refusal(text, settings)


def test_a_training_anvil_without_a_rune_that_takes_adapters_is_refused(settings: Settings) -> None:
    text = HOUSE.replace("[runes.chat]", "[runes.chat]\ncommand = ['x']").replace(
        "[runes.ears]", "[runes.ears]\ncommand = ['y']"
    )
    assert 'forge: no rune on "gpu0" takes adapters: give it one without `command`' in refusal(text, settings)


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


def test_folders_are_plain_paths_and_an_interpreter_stays_the_link_that_it_is(settings: Settings) -> None:
    Path("real").mkdir()
    Path("link").symlink_to("real")
    text = "suites = 'link'\n[bases.mine]\npath = 'real/../link'\n[jobs]\npython = 'link/python'\n"
    configuration = loaded(text, settings)
    real = Path("real").resolve()
    assert (configuration.suites, configuration.bases["mine"].path) == (real, real)
    assert configuration.jobs.python == Path("link").absolute() / "python"
