"""A local provider that speaks the vendors' wire protocols, answers by rule, and fails on schedule."""

from lamella.simulator.answers import Answer
from lamella.simulator.faults import Fault, FaultKind
from lamella.simulator.records import ReceivedRequest, Signal
from lamella.simulator.script import Script, load_script
from lamella.simulator.server import Simulator
from lamella.simulator.threads import SimulatorThread

__all__ = [
    'Answer',
    'Fault',
    'FaultKind',
    'ReceivedRequest',
    'Script',
    'Signal',
    'Simulator',
    'SimulatorThread',
    'load_script',
]
