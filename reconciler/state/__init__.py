"""Where records are kept between runs.

A module imports only from those above it.

    store (edge)  the state: the interface, SQLite and memory
"""
