"""Helpers that belong to no single component."""
