"""Files → documents → findings → profiles.

A module imports only from those above it.

    walk (edge)         folders and files: the walk, bytes and stamps
    documents           a YAML document with the place of every member
    yaml_fast           plain scalars, and one expression for the plain documents that nearly every file holds
    yaml_reader (edge)  bytes → documents from libyaml's events, strict, with exact places
    loader (edge)       files → documents by the fastest reader that can read them
    phrases             how findings name places, quote values and suggest names
    json_schema         what any JSON Schema finds wrong with a value, explained
    claims              what only one profile may have, across files
    validation          the rules of profiles: documents → diagnostics
    templates           documents as written → as meant: defaults, templates, placeholders
    declare             a valid document → its profile
    privacy             the guard: what looks like a real person's data
    fakedata (edge)     made-up data that cannot be anybody's, the same for the same seed
    formatter (edge)    a profile file in canonical order and quoting, comments kept
"""
