"""The service over a store: an HTTP API and the web explorer, in one process."""
