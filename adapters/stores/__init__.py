"""Stores that need more than the runtime's own dependencies, or a file of their own."""
