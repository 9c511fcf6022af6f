"""Features: the outputs of a frozen part for every image, computed once and kept."""
