"""Loads the pytest plugin in fixtures/, which judges the claims."""

pytest_plugins = ["fixtures.plugin"]
