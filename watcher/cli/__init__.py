"""The commands, a module each with `execute(arguments) -> int`, imported only when it is asked for.

    parser                 every command and option
    exits                  what the exit codes mean
    values, ids            what options and arguments take
    output, words          where commands write, and operations put into words
    run, check, demo, simulate
    track, untrack, listing (`list`), show     with `asking`: how they find and ask a running daemon
    wait                   operations to their end without a daemon: `following` runs the loop, `contact` says when to
                           give up, `verdict` what the ends mean, `progress` shows it
    healthcheck            with `address`; standard library only

Mistakes of operators leave as `exits.FailedError` or `OperatorError`; `watcher.__main__` makes a code of them.
"""
