"""Plans, findings and outcomes → text that people and programs read.

A module imports only from those above it.

    masking          personal values → tags, below every writer
    view             plan → the one view model behind every format that people read
    text             plans, findings, outcomes and records as text and JSON
    markdown         plans and findings as a comment that fits
    ci               plans and findings for builds: annotations, SARIF, JUnit, GitLab
    html (edge)      a plan as one HTML page that needs nothing else
    progress (edge)  progress of an apply on a terminal
    blame (edge)     what git knows of profile files
"""
