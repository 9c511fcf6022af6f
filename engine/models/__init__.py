"""Backbones and the networks built on them. Light: backbones, freezing, litert; the rest imports Keras."""
