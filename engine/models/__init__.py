"""Backbones and the networks built on them.

Light: backbones, freezing, litert. The rest imports Keras.
"""
