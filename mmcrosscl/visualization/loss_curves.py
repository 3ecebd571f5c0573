"""Figure of the loss and accuracy curves of a run."""

import re
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.errors import InputError

from .scalars import read_scalars


def plot_loss_curves(work_dir: str | Path, picture: str | Path) -> None:
    """Plot the loss and top-1 accuracy of each loss term over the training iterations.

    Args:
        work_dir (str | Path): Work dir of the run.
        picture (str | Path): Image file to write. Its suffix sets the format, such as ``.png``.
            Folders that do not exist are created.

    Raises:
        InputError: If no loss of a training iteration was logged in ``work_dir``, the format is
            unknown, or the file cannot be written.
    """
    picture = Path(picture)
    formats = sorted(FigureCanvasAgg.get_supported_filetypes())
    if (suffix := picture.suffix.removeprefix('.').lower()) not in formats:
        raise InputError(
            f'{picture} has no known image format; use one of the suffixes {", ".join(formats)}'
        )
    scalars = read_scalars(work_dir).train
    if not scalars:
        raise InputError(
            f'{work_dir} has logs of evaluations only; pass the work_dir of a training run'
        )
    # MMDetection writes names such as s0.loss_cls and sup_loss_cls
    losses = [name for name in scalars.names if re.search(r'(^|[._])loss_', name)]
    losses = losses or [name for name in scalars.names if name == 'loss']
    if not losses:
        raise InputError(f'{work_dir} has no losses in its logs; pass the work_dir of a training')
    # a detector has no accuracies of terms
    accuracies = [
        name for loss in losses if (name := f'acc_{loss.removeprefix("loss_")}') in scalars.names
    ]
    plots = [(losses, 'InfoNCE loss' if accuracies else 'loss')]
    plots += [(accuracies, 'contrastive top-1 accuracy (%)')] if accuracies else []
    figure = Figure(figsize=(5.5 * len(plots), 4.2), layout='constrained')
    FigureCanvasAgg(figure)
    axes_of = figure.subplots(1, len(plots), squeeze=False)[0]
    for axes, (names, label) in zip(axes_of, plots):
        for name in names:
            term = re.sub('^(loss|acc)_', '', name)
            levels = accuracies and '_' in term
            axes.plot(
                *scalars.column(name), label=term.replace('_', ' → ').upper() if levels else term
            )
        axes.set_xlabel('iteration')
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.legend(
        *axes_of[0].get_legend_handles_labels(),
        title='query → key' if accuracies else None,
        loc='outside right center',
    )
    atomic_write(picture, lambda path: figure.savefig(path, dpi=120, format=suffix))
