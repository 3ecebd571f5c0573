"""A picture of how the terms of a run went."""

import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmcrosscl.errors import InputError


def read_scalars(work_dir: str | Path) -> list[dict]:
    """What a run logged while it trained, by iteration; after a resume the later log holds.

    Args:
        work_dir (str | Path): The run's ``work_dir``.

    Returns:
        list[dict]: One dict of scalars per logged training iteration; ``step`` is the iteration.

    Raises:
        InputError: If nothing was logged there.
    """
    by_step = {}
    for log in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            try:
                scalars = json.loads(line)
            except json.JSONDecodeError:  # still being written, or cut off when the run was killed
                continue
            if 'loss' in scalars:
                by_step[scalars['step']] = scalars
    if not by_step:
        raise InputError(f'{work_dir} has no training log; name the work_dir of a run')
    return [by_step[step] for step in sorted(by_step)]


def plot_loss_curves(work_dir: str | Path, picture: str | Path) -> None:
    """Draw each term's loss and top-1 accuracy over the iterations of a run.

    Args:
        work_dir (str | Path): The run's ``work_dir``.
        picture (str | Path): File to write; its ending tells the format, such as ``.png``.

    Raises:
        InputError: If nothing was logged in ``work_dir``.
    """
    scalars = read_scalars(work_dir)
    terms = [name.removeprefix('loss_') for name in scalars[-1] if name.startswith('loss_')]
    figure = Figure(figsize=(11, 4.2), layout='constrained')
    FigureCanvasAgg(figure)
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for axes, prefix, label in (
        (loss_axes, 'loss_', 'InfoNCE loss'),
        (accuracy_axes, 'acc_', 'top-1 accuracy of the contrast (%)'),
    ):
        for term in terms:
            logged = [s for s in scalars if prefix + term in s]
            axes.plot(
                [s['step'] for s in logged],
                [s[prefix + term] for s in logged],
                label=term.replace('_', ' → ').upper() if '_' in term else term,
            )
        axes.set_xlabel('iteration')
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.legend(*loss_axes.get_legend_handles_labels(), title='query → key', loc='outside right')
    figure.savefig(picture, dpi=120)
