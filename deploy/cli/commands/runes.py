"""`soulforge runes`: make the containers of the runes that an engine runs, once, at deployment.

The services only start and stop them afterwards: they need no right to make any.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import load_settings
from deploy.cli.console import out
from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from shared.configuration.model import Configuration
    from shared.settings import Settings

PANEL = "Stack"
group = typer.Typer(no_args_is_help=True, help="Containers of the runes that a container engine runs.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="runes", rich_help_panel=PANEL)


@group.command("create")
def create(
    anew: Annotated[bool, typer.Option("--anew", help="Stop and remove those that exist first.")] = False,
) -> None:
    """Make the containers of the docker runes.

    They are those of soulforge.toml with driver "docker"; one that exists stays as it is.
    """
    for line in asyncio.run(make(load_settings(), anew)):
        out.print(line)


async def make(settings: Settings, anew: bool = False) -> list[str]:
    """What was made, a line each. Raises UserError where there is nothing to make or the engine refuses."""
    from shared.configuration.file import load
    from shared.drivers.containers.port import ContainerError

    configuration = load(settings)
    names = [name for name, rune in configuration.runes.items() if rune.driver == "docker"]
    if not names:
        raise UserError('no rune of soulforge.toml has driver = "docker": there is no container to make')
    try:
        return [await _made(settings, configuration, name, anew) for name in names]
    except ContainerError as error:
        raise UserError(str(error)) from error


async def _made(settings: Settings, configuration: Configuration, name: str, anew: bool) -> str:
    from services.orchestrator.engine_command import rune_spec
    from shared.base import find_base
    from shared.configuration.ports import container_name
    from shared.drivers.containers.docker import DockerContainers

    anvil, rune = configuration.anvil_of(name), configuration.runes[name]
    containers = DockerContainers(configuration.docker.host, house=configuration.docker.house)
    container = container_name(anvil, name)
    if await containers.inspect(container):
        if not anew:
            return f"{container} exists; --anew makes it again"
        await containers.stop(container, rune.stop_grace_s)
        await containers.remove(container)
    based = settings.model_copy(update={"base": rune.base or settings.base})
    planned = rune.model_copy(update={"port": configuration.port_of(name, settings)})
    spec = rune_spec(container, anvil, configuration.anvils[anvil], planned, based, find_base(based))
    await containers.create(spec)
    return f"{container} made from {rune.image}"
