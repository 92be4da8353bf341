"""The states of a machine: of its runs, and of the rounds within one."""

from lutra.tables.states.answers import Unlike
from lutra.tables.states.runs import SAME, State, States, fit_state, visits_in_one_state

__all__ = ["SAME", "State", "States", "Unlike", "fit_state", "visits_in_one_state"]
