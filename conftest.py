"""Options, fixtures and summary of the claims live in fixtures/."""

pytest_plugins = ["fixtures.plugin"]
