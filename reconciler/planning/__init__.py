"""Files and state → a plan, incrementally, in several processes.

A module imports only from those above it.

    workers (edge)   this process and, where there is much to do, others beside it
    packed           profiles as the index keeps them
    index (edge)     what the files declared when they were last read, in SQLite: a cache
    planfile (edge)  saved plans: written while they are made, read line by line
    catalog (edge)   what the files declare: read where they changed, remembered where not
    pipeline (edge)  declared and recorded, address by address, through the planner in batches
"""
