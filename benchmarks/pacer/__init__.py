"""How punctually frames leave, and what a stall of the process does to a caller."""
