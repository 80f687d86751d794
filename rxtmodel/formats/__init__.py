"""Formats of model folders: our own, and the published one of the reference implementation."""
