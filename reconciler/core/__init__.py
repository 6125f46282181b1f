"""Plans, and how they are decided. Pure, except for `contract_files`.

A module imports only from those above it.

    contract               the API's contract as typed values, the one normaliser, the profile schema
    contract_files (edge)  loads the contract; writes the files that are generated from it
    profiles               a profile: what one document asks for
    lifetimes              how long a profile may live, and when that ends
    records                facts, records and journal entries
    record_codec           records and exports as JSON
    digests                records and documents that say the same
    options                selection, caps, and how requests are rendered
    plan                   plans, changes, field changes, requests and hazards
    plan_format            a plan as lines of JSON under one digest
    requests               field changes → the requests that carry them, and their hazards
    removal                deleting recorded profiles: orphans and what has expired
    identity               which record a profile is, by any of its identifiers
    transitions            what an attempt and an answer do to a record; stale or already there
    outcomes               outcomes of the changes of a plan, progress and drift
    planner                desired and recorded → plan: the decision table, hazards, caps
"""
