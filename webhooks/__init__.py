"""Events in and out over HTTP: sources, intake, the event store, endpoints and deliveries."""
