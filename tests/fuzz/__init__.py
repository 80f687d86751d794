"""Bytes from anywhere, given to everything that reads bytes of a store."""
