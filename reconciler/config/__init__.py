"""`reconcile.yaml` → typed settings.

A module imports only from those above it.

    reader (edge)  reads, checks and remembers the configuration
"""
