"""Exports: a run's model for other programs, each with a certificate. Light, but for convert and half."""
