"""`soulforge runes`: create the containers of the runes that a container engine runs, once, at deployment.

The services only start and stop them afterwards: they need no right to create any.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import load_settings
from deploy.cli.console import out
from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from shared.config.model import Configuration
    from shared.config.settings import Settings

PANEL = "Stack"
group = typer.Typer(no_args_is_help=True, help="Containers of the runes that a container engine runs.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="runes", rich_help_panel=PANEL)


@group.command("create")
def create(
    recreate: Annotated[bool, typer.Option("--recreate", help="Stop and remove those that exist first.")] = False,
) -> None:
    """Create the containers of the docker runes.

    Those of soulforge.toml with driver = "docker"; a container that exists is left as it is.
    """
    for line in asyncio.run(create_containers(load_settings(), recreate)):
        out.print(line)


async def create_containers(settings: Settings, recreate: bool = False) -> list[str]:
    """Create the containers; returns a line for each. Raises UserError where there is nothing to make or the engine refuses."""
    from deploy.home import claim
    from deploy.services import load_configuration
    from shared.drivers.containers.port import ContainerError

    configuration = load_configuration(settings)
    names = [name for name, rune in configuration.runes.items() if rune.driver == "docker"]
    if not names:
        raise UserError('no rune of soulforge.toml has driver = "docker": there is no container to create')
    closed = claim(settings.home)
    try:
        created = [await _create(settings, configuration, name, recreate) for name in names]
    except ContainerError as error:
        raise UserError(str(error)) from error
    return [closed, *created] if closed else created


async def _create(settings: Settings, configuration: Configuration, name: str, recreate: bool) -> str:
    from services.orchestrator.engine_command import rune_spec
    from shared.config.ports import container_name
    from shared.drivers.containers.docker import DockerContainers

    rune = configuration.runes[name]
    containers = DockerContainers(configuration.docker.host, installation=configuration.docker.installation)
    container = container_name(configuration.anvil_of(name), name)
    if await containers.inspect(container):
        if not recreate:
            return f"{container} exists; --recreate replaces it"
        await containers.stop(container, rune.stop_grace_s)
        await containers.remove(container)
    spec = await rune_spec(settings, configuration, name)
    await containers.create(spec)
    return f"{container} created from {rune.image}"
