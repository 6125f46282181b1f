"""What a plan is, and how it is decided. Pure, except for `contract_files`.

A module imports only from those above it.

    contract               the API's contract as typed values, the one normaliser, the profile schema
    contract_files (edge)  loads the contract; writes the files that are generated from it
    profiles               a profile: what one document asks for
    lifetimes              how long a profile may live, and when that ends
    records                facts, records and journal entries
    record_codec           records and exports as JSON
    digests                records and documents that say the same
    plan                   plans, changes and requests, and their lines of JSON
    transitions            change → requests; what an answer does to a record; stale or already there
    outcomes               outcomes of the changes of a plan, progress and drift
    planner                desired and recorded → plan: the decision table, hazards, caps
"""
