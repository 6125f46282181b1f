"""A state in PostgreSQL: one schema is one state. `reconciler.state` lists the modules."""
