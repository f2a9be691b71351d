"""The gateway as a process of its own, on a home that a test has made ready.

python -m tests.support.fakes.gateway
"""

from __future__ import annotations

from deploy.services import load_app, load_configuration, migrations, service_port
from shared.config.settings import Settings
from shared.runtime.service import main

if __name__ == "__main__":
    settings = Settings()
    main(load_app("gateway"), settings, load_configuration(settings), service_port(settings, "gateway"), migrations())
