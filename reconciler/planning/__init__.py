"""Files and state → a plan, incrementally, on several workers.

A module imports only from those above it.

    limits               tunables, and the progress that planning reports
    processes (edge)     other processes of this program, reached by pipes
    workers (edge)       a pool of workers: this process and, where there is much to do, others
    packed               profiles as the index keeps them
    findings             findings as the index keeps them
    folder_files         the files of a folder as the index keeps them
    index_sum (edge)     the checksum of that file, and whether it is right
    index_file (edge)    the SQLite file of the index: opening, copying, keeping
    index (edge)         what the files declared when they were last read: a cache, and its queries
    reader (edge)        reading and checking single files
    catalog (edge)       what the files declare: read where they changed, remembered where not
    planfile (edge)      saved plans: written while they are made, read line by line
    pipeline (edge)      declared and recorded profiles → changes, in batches
"""
