"""A simulated Comms API: virtual push-notification operations, with everything that may go wrong.

It stands by itself and takes nothing from the rest of the package, so that what is tested against it is tested against
a truth of its own. From the inside out, pure until the last line:

    instants, values, ids      instants, texts such as `30s` and `1..100`, ids that tell their age
    life                       one operation: its state at an instant
    births                     how lives are drawn, sent or scripted
    timeline, world            all lives, in order, and which stand where
    fault_types, scenario      what a scenario file may say; `scenarios/` holds those that come along
    exchange, troubles         requests, answers, error bodies
    credentials, limits        who may ask, and how much
    faults, spoiling           what strikes a request, and what it does to it
    listing, sending           the list and the send endpoint
    ledger                     what was asked
    upstream                   all of that as one function: a request and an instant in, an answer out
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
