"""The telephony media engine: Twilio phone calls on one side, AI voices on the other."""
