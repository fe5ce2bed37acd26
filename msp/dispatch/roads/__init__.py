"""How long the drive takes: asked of a map service, kept, corrected by what visits really took, else estimated."""
