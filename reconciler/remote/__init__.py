"""A plan → requests → records.

A module imports only from those above it.

    answers         what a response says, and how a call ended
    pacing (edge)   when a request may leave: rate, waits, outages
    transport (edge)  one attempt over HTTP: sockets, TLS, pools, the watchdog over deadlines
    client (edge)   one call of the API: deadline and retries
    threads (edge)  calls in threads that do not keep the process alive
    engine (edge)   the flows of many profiles at once: group commits, calls in flight
    applier (edge)  the flow of a change, and of a look at a profile
"""
