"""The rim: everything that talks to the outside or joins two packages.

This file holds a docstring and nothing else, so that the modules below it still import when another
distribution that installs a package of the same name overwrites it.
"""
