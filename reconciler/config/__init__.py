"""`reconcile.yaml` → typed settings.

A module imports only from those above it.

    buildinfo         the build of GitHub or GitLab that the program runs in
    places (edge)     the folders of a project in the homes of its user
    hosts             hosts that a key may go to, in one form
    trust             what was allowed outside of the checkout
    project (edge)    the project: where its configuration is found, and what its paths may not leave
    trust_file (edge)  the user's file of what is allowed
    state_settings (edge)  the settings of a state → its location
    settings (edge)   typed settings, and the rules that the schema cannot express
    cache (edge)      keeps the value of a valid configuration in the cache home
    protected (edge)  the files that no output may replace
    reader (edge)     finds, reads and checks the configuration
    template          the configuration that `reconcile init` writes
"""
