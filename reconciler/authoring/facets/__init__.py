"""The rules that a profile file follows for each facet: its forms, and the findings about it."""
