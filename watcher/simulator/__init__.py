"""A simulated Comms API: virtual push-notification operations, with everything that may go wrong.

It stands by itself and takes nothing from the rest of the package, so that what is tested against it is tested against
a truth of its own. From the inside out, pure until the last line:

    timestamps, values, ids    formats of instants, texts such as `30s` and `1..100`, ids with a time in them
    life                       one operation: its state at an instant
    population                 how lives are drawn, sent or scripted
    timeline, world            all lives in order, and which are in which state
    fault_types, scenario      what a scenario file may say; `scenarios/` holds the built-in ones
    messages, error_bodies     requests, responses, error bodies
    credentials, limits        authentication and rate limits
    faults, corruption         which requests a fault applies to, and how it changes the response
    listing, send_endpoint     the list and the send endpoint
    request_log                the requests so far
    upstream                   all of that as one function: a request and an instant in, a response out
    transport                  that function behind httpx, for tests in virtual time
    control, server            that function behind a socket
"""

from watcher.simulator.fault_types import Fault
from watcher.simulator.messages import Reply, Request
from watcher.simulator.scenario import (
    Account,
    Limits,
    Population,
    Scenario,
    ScenarioError,
    built_in,
    built_in_names,
    load_scenario,
    parse_scenario,
    read_scenario,
)
from watcher.simulator.transport import SimulatedTransport
from watcher.simulator.upstream import Upstream

__all__ = [
    "Account",
    "Fault",
    "Limits",
    "Population",
    "Reply",
    "Request",
    "Scenario",
    "ScenarioError",
    "SimulatedTransport",
    "Upstream",
    "built_in",
    "built_in_names",
    "load_scenario",
    "parse_scenario",
    "read_scenario",
]
