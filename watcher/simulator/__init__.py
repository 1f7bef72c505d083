"""A simulated Comms API with virtual push-notification operations and configurable faults.

It is independent of the rest of the package, so that the watcher is not tested against its own code. From the inside
out; all but the last two lines are pure:

    timestamps, values, ids    formats of timestamps, texts such as `30s` and `1..100`, ids that contain a time
    life                       one operation: its state at any time
    population                 how lives are drawn, sent or scripted
    timeline, world            all lives in order of creation, by account and status
    fault_types, scenario      the format of a scenario file; `scenarios/` holds the built-in ones
    messages, error_bodies     requests, responses, error bodies
    credentials, limits        authentication and rate limits
    faults, corruption         which requests a fault applies to, and how it changes the response
    listing, send_endpoint     the list and the send endpoint
    request_log                the requests so far
    upstream                   all of that as one function from a request and a time to a response
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
