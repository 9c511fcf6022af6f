"""The parts of the Test page."""
