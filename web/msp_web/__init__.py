"""The web: staff pages, client portal and API."""
