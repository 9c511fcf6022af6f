"""The doctor: finds what is damaged, left over or full in a home, and says what to do."""
