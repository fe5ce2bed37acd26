"""Where secrets are kept: our own vault, and OpenBao or HashiCorp Vault."""
