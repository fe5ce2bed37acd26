"""Users, roles and rights."""
