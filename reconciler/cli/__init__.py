"""The command line. `main` declares the commands; one module for each group of commands carries them out.

A module imports only from those above it.

    streams (edge)   the standard streams: encoding, broken pipes, the exit code at the end
    questions (edge)  questions to a person, which a signal ends
    stopping (edge)  signals: the first lets what is under way finish
    tracing (edge)   says which requests leave
    examples (edge)  the examples that help shows
    grammar (edge)   how arguments are read: options of the program anywhere, examples in help
    advice           the right way, for those who come from other programs
    options (edge)   options that several commands share
    findings (edge)  findings as text, with the lines of files that they are about
    lock_notice (edge)  what is told while a command waits for the lock of the state
    app (edge)       what all commands share, and the group that turns errors into exit codes
    outputs (edge)   where commands write; - for standard output and input
    formats (edge)   plans and findings in the formats of reviews and builds
    render (edge)    prints a plan or findings in the format that the options name
    explaining (edge)  explain
    files (edge)     init, validate, render, fmt
    planning (edge)  plan, show
    applying (edge)  apply, sweep, destroy
    remote (edge)    refresh
    importing (edge)  import
    state (edge)     state list, show, rm, pull, push, unlock
    state_stores (edge)  state backups, migrate
    history (edge)   history
    doctor (edge)    doctor
    emulator (edge)  emulator
    completion (edge)  completion: how shells ask this program
    completion_values (edge)  the values of a project that complete a word
    guide (edge)     help, schema
    main (edge)      all commands with their arguments and options
"""
