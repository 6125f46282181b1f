"""Plans, findings and outcomes → text that people and programs read.

A module imports only from those above it.

    masking              personal values → tags, below every writer
    style                colours and arrows of a terminal
    wording              phrases that several formats share
    tally                sums over the changes of a plan, and over findings
    view                 plan → the one view model behind every format that people read
    plan_text            a plan as text
    capture              sums and text of a plan, gathered while it is made
    explanations         rules and hazards explained: one of them, the list, the page of all
    findings_text        findings as text, with the lines that they are about
    text                 outcomes, drift and records as text
    history              the history of applies as text and JSON
    json                 plans, findings, drift and the events of an apply as JSON
    markdown             plans and findings as a comment that fits
    ci                   plans and findings for builds: annotations, SARIF, JUnit, GitLab
    html (edge)          a plan as one HTML page that needs nothing else
    progress_bar (edge)  the bar of a long apply
    progress (edge)      progress of an apply on a terminal
    blame (edge)         who wrote a line of a profile file, and who removed one
"""
