"""The commands: one module each, with `execute(arguments) -> int`, imported only when the command is run.

    parser                 every command and option
    exits                  what the exit codes mean
    values, ids            what options and arguments take
    output, formatting     where commands write, and how operations are formatted
    run, check, demo, simulate
    track, untrack, listing (`list`), show     with `admin_client`, which finds and calls a running daemon
    wait                   tracks operations to their end without a daemon: `wait_loop` runs the loop, `reachability`
                           decides when to give up, `verdict` the exit code, `progress` displays the operations
    configured             reads the configuration for one command, with a time limit
    healthcheck            with `address`; standard library only

An error of the operator is raised as `exits.FailedError` or `OperatorError`; `watcher.__main__` turns it into the exit
code.
"""
