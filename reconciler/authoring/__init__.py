"""Files → documents → findings → profiles.

A module imports only from those above it.

    walk (edge)         folders and files: the walk, bytes and stamps
    documents           a YAML document with the place of every member
    finding_limits      how many findings of a rule are listed for a file
    yaml_scalars        plain scalars of YAML, and characters that do not show
    yaml_fast           one function that reads the plain YAML of nearly every file
    yaml_findings       what the strict reader finds wrong with a file, in a person's words
    yaml_reader (edge)  bytes → documents from libyaml's events, strict, with exact places
    loader (edge)       files → documents by the fastest reader that can read them
    phrases             how findings name places, quote values and suggest names
    json_schema         what any JSON Schema finds wrong with a value, explained
    facets.rules        the interface of the rules of a facet
    facets.custom_attributes  the rules of custom attributes
    facets.installation  the rules of an installation
    facets.access_levels  the rules of access levels
    facets.own_members  the rules of members with a path of their own
    facets.integrations  the rules of integration identifiers
    facets.refund_saver  the rules of refund preferences
    facets.registry     the rules of all facets, in their order
    claims              what only one profile may have, across files
    validation          the rules of profiles: documents → diagnostics
    variable_names      environment variables that no profile file may use
    placeholders        `{index}`, `${var.…}` and their like in text, and what they stand for
    defaults            values that lie under the documents of a folder
    folder_defaults (edge)  the defaults of folders, from a root downwards
    templates           a document with `for_each` makes several profiles
    fakedata (edge)     made-up data that cannot be anybody's, the same for the same seed
    render (edge)       files → the documents that they stand for
    declare             a valid document → its profile
    yaml_writer         a document → the text of a profile file
    table               a table (CSV) → documents
    transcript          what the API tells of a profile → the text of a file
    privacy             the guard: what looks like a real person's data
    canonical_form      the order of keys and the spelling of scalars; a quick test for both
    formatter (edge)    a profile file in canonical order and quoting, comments kept
"""
