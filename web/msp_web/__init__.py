"""The web pages: a Flask application over the rooms of `msp`."""
