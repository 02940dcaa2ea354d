"""What a 20 ms frame costs to encode, resample, and put on the wire."""
