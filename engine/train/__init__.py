"""Training: the path from a recipe to a result. Heavy: imports TensorFlow."""
