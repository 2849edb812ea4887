"""Measures where the time of train steps goes, and says what would make them faster."""
