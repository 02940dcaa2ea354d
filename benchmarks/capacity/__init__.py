"""How many calls one core of this machine holds."""
