"""Time and memory of a recipe on this host; proposals of recipes and learning rates.

Light, except the workers.
"""
