"""Plans, and how they are decided. Pure, except for `rules` and `contract_files`.

A module imports only from those above it.

    contract               the API's contract as typed values
    profiles               a profile: what one document asks for
    lifetimes              how long a profile may live, and when that ends
    instants               times with a zone
    access                 access over time, and the way from one to another
    records                facts, records and journal entries
    options                selection, caps, and how requests are rendered
    plan                   plans, changes, field changes, requests and hazards
    endpoints              paths and headers of requests, and the requests that read
    facets.facet           the interface of a facet: a group of fields that is written and read in one way
    facets.parts           parts of schemas, bodies and answers that facets share
    facets.profile_fields  standard fields
    facets.custom_attributes  the app's own keys, merged by key
    facets.installation    one installation of the app, sent whole
    facets.access_levels   access levels, granted and revoked by requests of their own
    facets.own_members     named members with a path of their own
    facets.integrations    integration identifiers
    facets.refund_saver    refund preferences
    facets.registry        all facets in their order, and the questions that are asked of all
    profile_schema         the JSON Schema of a profile file
    rules (edge)           every rule of findings and kind of hazard, explained
    contract_files (edge)  loads the contract; writes the files that are generated from it
    record_codec           records and exports as JSON
    digests                records and documents that say the same
    plan_format            a plan as lines of JSON under one digest
    requests               field changes → the requests that carry them, and their hazards
    removal                deleting recorded profiles: orphans and what has expired
    renames                records whose address changed in the files
    identity               which record a profile is, by any of its identifiers
    transitions            what an attempt and an answer do to a record; stale or already there
    outcomes               outcomes of the changes of a plan, progress and drift
    written                the profiles that a plan would write
    planner                desired and recorded → plan: the decision table, hazards, caps
"""
