"""Facets: groups of fields of a profile, each of which is written and read in its own way."""
