"""Simulated annealing whose schedules learn: chains, schedules, meta-gradients."""

from ._acceptance import AcceptanceRule as AcceptanceRule
from ._acceptance import barker as barker
from ._acceptance import metropolis as metropolis
from ._chain import Result as Result
from ._chain import Status as Status
from ._chain import Trace as Trace
from ._chain import anneal as anneal
from ._chain import anneal_problem as anneal_problem
from ._learnable import LearnableSchedule as LearnableSchedule
from ._learnable_lr import LearnableLR as LearnableLR
from ._learning_rate import LearnedRate as LearnedRate
from ._learning_rate import learn_learning_rate as learn_learning_rate
from ._learning_rate import unrolled_loss as unrolled_loss
from ._problem import Problem as Problem
from ._save import load as load
from ._save import save as save
from ._schedules import FixedSchedule as FixedSchedule
from ._schedules import Schedule as Schedule
from ._schedules import cosine as cosine
from ._schedules import exponential as exponential
from ._schedules import linear as linear
from ._schedules import logarithmic as logarithmic
