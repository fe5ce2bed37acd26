"""One module a room of pages; each holds its blueprint as `bp`."""
