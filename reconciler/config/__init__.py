"""`reconcile.yaml` → typed settings.

A module imports only from those above it.

    buildinfo         the build of GitHub or GitLab that the program runs in
    places (edge)     the folders of a project in the homes of its user
    settings (edge)   typed settings, and the rules that the schema cannot express
    cache (edge)      keeps the value of a valid configuration in the cache home
    protected (edge)  the files that no output may replace
    reader (edge)     finds, reads and checks the configuration
    template          the configuration that `reconcile init` writes
"""
