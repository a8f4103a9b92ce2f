"""Modelyard: from a training script to a deployment that proves itself."""

__version__ = "0.1.0"
