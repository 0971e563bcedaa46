"""Trains the embedded vision-language model: a small LLaVA that names and retrieves drawings."""
