"""The state in a bucket: a log of numbered objects that are created, never changed, and a cache of it.

The docstring of `reconciler.state` lists the modules, in the order in which they import each other.
"""
