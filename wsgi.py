"""The web server's entry."""

from marketplace.app import create_app

app = create_app()
