"""Incidents: what stopped, put together by its cause, so that one cure is found and done once."""
