"""Predicting with a finished run: answers, confidence, explanations, many images at once.

Light: no module here imports TensorFlow.
"""
