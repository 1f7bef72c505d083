"""What an observation does to an operation.

rules           the table: which rule applies in which phase to which kind of observation
tracked         the rules while the operation has not ended
after_end       the rules while its stats are not confirmed
bounds          what bounds its life: age, failing reads
steps           the result of an observation, and the parts that rules build it from
answers         what an observation says: the column of the table, its order among others, its age
settling        when the stats of an ended operation are read again
"""

from watcher.core.lifecycle.answers import is_past_its_record, means_failure
from watcher.core.lifecycle.bounds import LifecycleRules
from watcher.core.lifecycle.rules import observe
from watcher.core.lifecycle.settling import retry_wait, settling_began_at, settling_wait
from watcher.core.lifecycle.steps import Step

__all__ = [
    "LifecycleRules",
    "Step",
    "is_past_its_record",
    "means_failure",
    "observe",
    "retry_wait",
    "settling_began_at",
    "settling_wait",
]
