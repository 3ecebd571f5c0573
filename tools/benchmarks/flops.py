"""Count of the floating-point operations of a training step, from which costs are computed."""

from torch.utils.flop_counter import FlopCounterMode

from .harness import table
from .step import step

# peak dense bfloat16 operations per second, from the data sheets of NVIDIA
PEAKS = {'A100': 312e12, 'H100 SXM': 989e12}
# assumed share of the peak that the training reaches
UTILIZATION = 0.3
# images of the published recipe, and of shorter ones
LENGTHS = {
    '1,000 iterations of 32': 32_000,
    '200 epochs of 100,000 images': 20_000_000,
    '200 epochs of ImageNet (published)': 256_233_400,
}


def report(images: int, size: int, depth: int) -> str:
    """Count the operations per image, and compute the GPU hours of several lengths.

    The counter of torch includes convolutions and matrix products, two operations per multiply-add.

    Args:
        images (int): Number of images in a batch.
        size (int): Side length of the views in pixels.
        depth (int): Depth of the ResNet.
    """
    run = step(images=images, size=size, depth=depth)
    with FlopCounterMode(display=False) as counter:
        run()
    each = counter.get_total_flops() / images
    rows = [
        [name, count, *(count * each / (UTILIZATION * peak) / 3600 for peak in PEAKS.values())]
        for name, count in LENGTHS.items()
    ]
    return table(
        f'Computed, not measured: ResNet-{depth}, views of {size} pixels, '
        f'{each / 1e9:.3g} GFLOP per image, {100 * UTILIZATION:.0f} % of the peak in bfloat16',
        ['length', 'images', *(f'{name} hours' for name in PEAKS)],
        rows,
    )
