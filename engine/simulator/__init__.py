"""Twilio and OpenAI played from the other side, as strict as the services themselves."""
