"""Studies that compare the initializations of a detector fairly, on the images of the user."""

# checks the required packages before the modules below import them
import mmcrosscl.registry  # noqa: F401

from .arms import Arm, parse_arm
from .job_runner import StudyRunner
from .plan import Job, Plan
from .publish import Results, publish, read_results_file
from .run import run_study
from .statistics import compare, mean_with_interval
from .study import Study, create_study

__all__ = [
    'Arm',
    'Job',
    'Plan',
    'Results',
    'Study',
    'StudyRunner',
    'compare',
    'create_study',
    'mean_with_interval',
    'parse_arm',
    'publish',
    'read_results_file',
    'run_study',
]
