"""Operation watcher: follows Twilio push-notification operations to their end.

The core decides, the shell does, the store compares. The map of the package; each imports only from layers below it:

    __main__       reads the command line, runs one command, gives its exit code
    cli            the commands
    demo           everything at once with no account
    daemon         builds everything from the configuration; root tasks, signals, reload, shutdown
    server         the two listeners: web reads, admin registers; the status page; OpenAPI
    watch          one loop per account: plan → ask → observe → commit → tell
    telling        committed events to standard output, in order
    simulator      the simulated API of upstream; takes nothing from the rest
    intake         where operations come from: configuration and the admin API
    api            upstream over HTTP; every failure leaves as an observation
    store          state and untold events, durable: SQLite, or memory
    metrics        what Prometheus sees: a collector over snapshots
    logs           lines on standard output
    config         YAML and environment to frozen settings
    loop           the event loop: names are resolved in threads of their own
    threads        pools for work that may block, bounded and named
    deadline       a time limit for a blocking exchange
    signals        a stop is handled from the first instruction
    clock          wall time and a clock that never jumps
    event_ids      ids of events, never the same twice
    core           values in, values out; no clock, chance, network, file or log

The core is layered too:

    attribution    whose answer it is: upstream's about one operation, or a sign of trouble with the account
    condition      how an account is doing, told on the edges
    attempt        one attempt at upstream as it ended
    planner        what to ask next, and when to wake
    governor       the account's share: rate, concurrency, holds
    lifecycle      what an observation does to an operation
    wire           bytes and headers to observations
    census         which operations are shown, and until when
    discovery      what to read of an account's lists so that every operation is found
    tours          sweeps under way, page after page
    steps          what an observation leads to, and the pieces that rules make it of
    answers        which column of the life cycle's table an observation is
    windows        which window of which list is the best question about an operation
    readings       one list that discovery reads, page after page
    places         looks in order of creation
    agenda         who is due when
    looks          when one operation is looked at next, and why
    densities      how many rows a list has for what was created when
    departures     how fast operations leave a list
    asks           the questions that the planner may choose to ask
    error_bodies   the shapes in which upstream writes errors, told apart from those of others
    rows           rows of lists as they were read before
    clocks         what time it is, from two clocks that may both be wrong
    settling       when the stats of an operation that has ended are read again
    snapshot       what the listeners and the collector see
    observation    what one question brought back
    labelling      which combinations of labels the counters carry, and from when they are shown
    totals         what a finished operation adds to the counters
    model          operations, stats, events
    settings       what the operator can set
    errors         by whose turn it is

Data flows one way. What people and configuration name goes through intake into the store, and the account's loop
takes it from there. The planner says what to ask, the governor when; the client asks; wire reads the answer as an
observation; lifecycle makes a new state and events of that. Both are committed in one transaction, then the events
are told. Whoever shows something reads an immutable snapshot. Nothing flows back, except that handlers wake a loop.

What an observation does to an operation (`watcher.core.lifecycle`):

                running        unknown        ended          missing        refused        forbidden      unanswered
    followed    moves          moves          ends           misses         is rejected    is forbidden   stays
    settling    has regressed  is unclear     settles        is gone        is unsettled   is forbidden   is unsettled
    final       stays          stays          stays          stays          stays          stays          stays
"""

__version__ = "0.1.0"
