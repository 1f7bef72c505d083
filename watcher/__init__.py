"""Operation watcher: tracks Twilio push-notification operations until they end, and reports what happens to them.

The core decides, the packages around it do the I/O, the store keeps state. Each package imports only from layers below
it:

    __main__       reads the command line, runs one command, returns its exit code
    cli            the commands
    demo           simulated API, daemon and a sending app in one process, without an account
    daemon         builds everything from the configuration; root tasks, signals, reload, shutdown
    server         the two HTTP listeners: web is read-only, admin registers operations; status page; OpenAPI
    watch          one loop per account: plan, request, observe, commit, publish
    publishing     writes committed events to standard output, in order
    simulator      the simulated upstream API; imports nothing from the rest of the package
    intake         registers operations that the configuration and the admin API name
    api            the HTTP client of the upstream API; every failure becomes an observation
    store          durable state and pending events: SQLite, or memory
    metrics        the Prometheus exposition, from immutable snapshots
    logs           log lines on standard output
    config         YAML file and environment to immutable settings
    loop           the event loop, which resolves host names in threads of its own
    threads        bounded, named thread pools for work that may block
    deadline       a time limit for one blocking call
    signals        stop and reload signals, handled from the first instruction on
    clock          wall time, and a monotonic clock
    event_ids      unique ids of events
    core           pure functions and values: no clock, randomness, network, file or log

The core has layers too:

    attribution    whose answer it is: upstream's about one operation, or a sign that the account has a problem
    account_health  the health of an account, and the events when it changes
    attempt        the result of one HTTP attempt
    turns          which part of the loop sends the next request
    planner        chooses the next request and the time to wake
    governor       the rate, the concurrency and the holds of an account
    census         chooses the operations that have series, and until when
    discovery      chooses which list pages to read so that every operation is found
    lifecycle      applies an observation to an operation
    readings       one list that discovery reads, page by page
    requests       the requests that the planner can choose
    wire           decodes response bytes and headers into observations
    record_cache   decoded list rows, kept while their bytes stay the same
    clocks         the best-known time, from two clocks that can both be wrong
    error_bodies   recognises upstream's error bodies among those of proxies
    snapshot       immutable views for the listeners and the exposition
    observation    the values that a request can return
    labelling      the label combinations of the counters, and when they are first shown
    totals         what a finished operation adds to the counters
    backoff        the wait before the next try
    model          operations, stats, events
    channels       what upstream counts of an operation, and what each count means
    settings       the settings and their defaults
    errors         the base classes of errors, by who must act
    printable      texts from outside, fit for a terminal and a log

Data flows one way. Intake writes the operations that people and the configuration name into the store, and the
account's loop reads them from there. The planner chooses a request, the governor its time, the client sends it; `wire`
decodes the answer into an observation; `lifecycle` turns it into a new state and events. State and events are committed
in one transaction, then the events are published. Everything that is shown is read from an immutable snapshot. Nothing
flows back, except that handlers wake a loop.

What an observation does to an operation (`watcher.core.lifecycle`):

                running        unknown        ended          missing        refused        forbidden      unanswered
    followed    moves          moves          ends           misses         is rejected    is forbidden   stays
    settling    has regressed  is unclear     settles        is gone        is unsettled   is forbidden   is unsettled
    final       stays          stays          stays          stays          stays          stays          stays
"""

__version__ = "0.1.0"
