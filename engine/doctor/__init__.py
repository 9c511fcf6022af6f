"""The doctor: what is damaged, left over or full in a home, and what to do. Light."""
