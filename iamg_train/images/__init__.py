"""Downloading the pictures that a catalogue names by address, from servers that nobody has vouched for."""
