"""The HTTP side: webhooks and their answers."""
