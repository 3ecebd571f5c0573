"""Report of training runs: one HTML page that needs no network."""

from .collect import Run, collect
from .page import Report, render_page
from .pictures import picture
from .templates import render_template
from .writing import write_report

__all__ = ['Report', 'Run', 'collect', 'picture', 'render_page', 'render_template', 'write_report']
