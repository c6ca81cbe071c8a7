"""What a model's answers are worth: calibration, and intervals around means."""

from ._calibration import Bin as Bin
from ._calibration import brier_score as brier_score
from ._calibration import expected_calibration_error as expected_calibration_error
from ._calibration import maximum_calibration_error as maximum_calibration_error
from ._calibration import reliability as reliability
from ._intervals import cluster_interval as cluster_interval
