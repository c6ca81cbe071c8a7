"""Simulated annealing whose temperatures learn.

``anneal`` runs chains of any pytree under a schedule of temperatures, ``temper`` runs
them side by side on a ladder; ``learn_schedule`` follows meta-gradients through them by
one of four estimators, ``search_schedule`` and ``search`` need none. ``save`` and
``load`` keep schedules in JSON files.
"""

from ._acceptance import AcceptanceRule as AcceptanceRule
from ._acceptance import barker as barker
from ._acceptance import metropolis as metropolis
from ._chain import Result as Result
from ._chain import Status as Status
from ._chain import Trace as Trace
from ._chain import anneal as anneal
from ._chain import anneal_problem as anneal_problem
from ._epistemic import Dissent as Dissent
from ._epistemic import EpistemicSchedule as EpistemicSchedule
from ._es import es as es
from ._hyper_search import Choice as Choice
from ._hyper_search import Found as Found
from ._hyper_search import Integer as Integer
from ._hyper_search import Trial as Trial
from ._hyper_search import Uniform as Uniform
from ._hyper_search import search as search
from ._learnable import LearnableSchedule as LearnableSchedule
from ._meta import History as History
from ._meta import Learned as Learned
from ._meta import learn as learn
from ._meta import learn_schedule as learn_schedule
from ._monitors import Monitors as Monitors
from ._objective import MetaLoss as MetaLoss
from ._objective import decided_process as decided_process
from ._objective import relaxed_process as relaxed_process
from ._pathwise import pathwise as pathwise
from ._pes import pes as pes
from ._plots import plot_learning as plot_learning
from ._plots import plot_run as plot_run
from ._plots import plot_schedule as plot_schedule
from ._problem import Problem as Problem
from ._process import Emission as Emission
from ._process import Estimate as Estimate
from ._process import Process as Process
from ._process import mean_loss as mean_loss
from ._save import load as load
from ._save import save as save
from ._schedule_file import read_schedule_file as read_schedule_file
from ._schedule_file import write_schedule_file as write_schedule_file
from ._schedule_search import Searched as Searched
from ._schedule_search import search_schedule as search_schedule
from ._schedules import FixedSchedule as FixedSchedule
from ._schedules import Schedule as Schedule
from ._schedules import cosine as cosine
from ._schedules import exponential as exponential
from ._schedules import linear as linear
from ._schedules import logarithmic as logarithmic
from ._score_function import score_function as score_function
from ._self_learn import AnnealConfig as AnnealConfig
from ._self_learn import SelfLearned as SelfLearned
from ._self_learn import self_learn_anneal as self_learn_anneal
from ._smooth_floor import smooth_floor as smooth_floor
from ._tempering import Ladder as Ladder
from ._tempering import Tempered as Tempered
from ._tempering import temper as temper
from ._tempering import tempering_process as tempering_process
