"""Features: what a frozen part gives for every image, computed once and kept."""
