"""Jobs of the gloo processes in test_distributed.py and test_communication.py."""

import os

import torch
from mmengine.dist import all_gather
from mmengine.model import MMDistributedDataParallel
from torch import distributed

from mmcrosscl.models.communication import BatchShuffle, start_gather
from mmcrosscl.registry import MODELS
from tests.models.builders import make_batch, model_config
from tools.benchmarks import comm

IMAGES, SIZE = 3, 64
SHUFFLED, SEEDS = 8, 12


def build():
    torch.manual_seed(0)
    model = MODELS.build(model_config(queue_len=10, width=16)).double()
    model.init_weights()
    return model.train()


def rank_batch(rank: int, step: int = 0, **sample):
    views, samples = make_batch(SIZE, IMAGES, seed=100 * step + rank, **sample)
    return [view.double() for view in views], samples


def total(losses):
    return sum(value for name, value in losses.items() if name.startswith('loss'))


def start(rank: int, world: int, folder: str, job) -> None:
    os.environ['LOCAL_RANK'] = str(rank)
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/group', rank=rank, world_size=world
    )
    torch.save(job(rank), f'{folder}/rank{rank}.pth')
    # gloo of old torch hangs if a process leaves the group after the others have ended
    distributed.barrier()
    distributed.destroy_process_group()


def wrap(model):
    return MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)


def one_step(rank: int) -> dict:
    model = wrap(build())
    views, samples = rank_batch(rank, key_crop=(0.05 * rank, 0.0, 0.9, 0.9))
    losses = model(views, samples, mode='loss')
    total(losses).backward()
    module = model.module
    return dict(
        losses={name: value.item() for name, value in losses.items()},
        gradients={n: p.grad for n, p in module.named_parameters() if p.grad is not None},
        queue=module.queue.keys,
        pointer=module.queue.pointer,
    )


def twenty_steps(rank: int) -> dict:
    model = wrap(build().float())
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9
    )
    for step in range(20):
        # in some steps, one rank or both ranks have no paired regions
        paired = False if step % 5 == 4 or (step % 3 == 2 and rank == 1) else None
        views, samples = rank_batch(rank, step, paired=paired)
        losses = model([view.float() for view in views], samples, mode='loss')
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
    state = {
        name: value for name, value in model.module.state_dict().items() if 'running_' not in name
    }
    flat = torch.cat([value.double().flatten() for value in state.values()])
    assert all(torch.equal(flat, other) for other in all_gather(flat))
    return state


def shuffled_images(rank: int) -> torch.Tensor:
    images = torch.randn(SHUFFLED, 2, 3, 5, generator=torch.Generator().manual_seed(rank))
    return images.to(memory_format=torch.channels_last)


def shuffle_and_gather(rank: int) -> dict:
    """Shuffle and gather with several seeds, and count the received bytes."""
    images, world = shuffled_images(rank), distributed.get_world_size()
    out = dict(shuffled=[], restored=[], doubled=[])
    with comm.received_bytes() as counts:
        for seed in range(SEEDS):
            shuffle = BatchShuffle(SHUFFLED, seed, images.device)
            shuffled = shuffle.shuffle(images)
            # two exchanges are in flight at the same time
            doubled = (2 * shuffled).to(memory_format=torch.channels_last)
            waits = [shuffle.start_restore(x) for x in (shuffled, doubled)]
            out['shuffled'].append(shuffled.contiguous())
            for name, wait in zip(('restored', 'doubled'), waits):
                out[name].append(wait().contiguous())
    with comm.received_bytes() as gathered:
        for seed in range(SEEDS):
            comm.gather_everything(images, lambda x: [x, x], seed)
    bytes_per_image = 3 * images[0].nbytes
    rows = start_gather(torch.full((3, 2), float(rank)))()
    return out | dict(
        bytes=sum(counts),
        gathered_bytes=sum(gathered),
        shuffled_formula=SEEDS * comm.shuffled_bytes(world, SHUFFLED, bytes_per_image),
        gathered_formula=SEEDS * comm.gathered_bytes(world, SHUFFLED, bytes_per_image),
        gathered=rows,
    )
