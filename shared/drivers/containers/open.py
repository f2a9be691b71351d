"""Open the container driver that is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.drivers.containers.docker import DockerContainers
from shared.drivers.containers.process import ProcessContainers

if TYPE_CHECKING:
    from shared.config.settings import Settings
    from shared.config.tables import DockerConfig
    from shared.drivers.containers.port import Containers


def open_containers(settings: Settings, driver: str, docker: DockerConfig) -> Containers:
    """Return the driver. It does not connect to an engine: one that is down is noticed at the first call."""
    return (
        DockerContainers(docker.host, installation=docker.installation, root_jobs=docker.job_user)
        if driver == "docker"
        else ProcessContainers(settings.containers_dir)
    )
