"""What the planted-fault drill of each engine backs up, and the faults it plants."""
