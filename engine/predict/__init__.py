"""Predicting with a finished run: answers, how sure they are, why, and for many images. Light."""
