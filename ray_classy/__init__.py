"""Trains and evaluates image classifiers from one config file, in one process or on a Ray cluster."""

__version__ = "0.1.0"
