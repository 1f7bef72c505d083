"""The commands, a module each with `execute(arguments) -> int`, imported only when it is asked for.

    parser                 every command and option
    exits                  what the exit codes mean
    values, ids            what options and arguments take
    output, formatting     where commands write, and how operations are formatted
    run, check, demo, simulate
    track, untrack, listing (`list`), show     with `admin_client`: finds and calls a running daemon
    wait                   operations to their end without a daemon: `wait_loop` runs the loop, `reachability` says when
                           to give up, `verdict` what the ends mean, `progress` shows it
    configured             reads the configuration for one command, with a time limit
    healthcheck            with `address`; standard library only

Mistakes of operators leave as `exits.FailedError` or `OperatorError`; `watcher.__main__` makes a code of them.
"""
