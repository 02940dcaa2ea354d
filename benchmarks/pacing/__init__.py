"""Which FRAME_MS and LEAD_MS suit this machine and its network."""
