"""Image and video classification from one config, on one process or on a Ray cluster."""

__version__ = "0.1.0"
