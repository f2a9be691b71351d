"""What the services share: contracts, configuration, messaging, storage, jobs and drivers. Imports no service."""
