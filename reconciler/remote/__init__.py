"""A plan → requests → records.

A module imports only from those above it.

    error_text        the reason that the body of an error gives
    encodings         bodies that came compressed
    answers           what a response says, and how a call ended
    turns             the moments at which requests may leave, by the rate
    pacing (edge)     when a request may leave: rate, waits, outages
    causes (edge)     why the API was not reached, and the setting that mends it
    transport (edge)  one attempt over HTTP: sockets, TLS, pools, the watchdog over deadlines
    client (edge)     one call of the API: deadline and retries
    threads (edge)    calls in threads that do not keep the process alive
    engine (edge)     the flows of many profiles at once: group commits, calls under way
    refresh           reads recorded profiles back, and compares them with their records
    context (edge)    the surroundings of an apply: clock, gate, listener
    followup          requests that follow from an answer
    run               one apply under way: what it has learned, the steps that its flows share
    settlement        from the answer to a request to a record, a journal entry and a result
    request_flow      the flow of one request: quiet period, look-up, intent, call, fallback
    change_flow       the flow of one change: staleness, requests, forgetting
    applier           a whole plan: recovery, flows, outcomes
"""
