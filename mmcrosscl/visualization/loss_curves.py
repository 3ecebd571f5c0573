"""Figure of the loss and accuracy curves of a run."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmcrosscl.errors import InputError

from .scalars import read_scalars


def plot_loss_curves(work_dir: str | Path, picture: str | Path) -> None:
    """Plot the loss and top-1 accuracy of each loss term over the training iterations.

    Args:
        work_dir (str | Path): Work dir of the run.
        picture (str | Path): Image file to write. Its suffix sets the format, such as ``.png``.

    Raises:
        InputError: If no training iteration was logged in ``work_dir``.
    """
    scalars = read_scalars(work_dir).train
    if not scalars:
        raise InputError(
            f'{work_dir} has logs of evaluations only; pass the work_dir of a training run'
        )
    terms = [name.removeprefix('loss_') for name in scalars.names if name.startswith('loss_')]
    figure = Figure(figsize=(11, 4.2), layout='constrained')
    FigureCanvasAgg(figure)
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for axes, prefix, label in (
        (loss_axes, 'loss_', 'InfoNCE loss'),
        (accuracy_axes, 'acc_', 'contrastive top-1 accuracy (%)'),
    ):
        for term in terms:
            axes.plot(
                *scalars.column(prefix + term),
                label=term.replace('_', ' → ').upper() if '_' in term else term,
            )
        axes.set_xlabel('iteration')
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.legend(
        *loss_axes.get_legend_handles_labels(), title='query → key', loc='outside right center'
    )
    figure.savefig(picture, dpi=120)
