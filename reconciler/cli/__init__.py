"""The command line and its one error door.

A module imports only from those above it.

    main (edge)  all commands
"""
