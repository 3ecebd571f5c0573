"""What each of several gloo processes runs in test_distributed.py."""

import os

import torch
from mmengine.dist import all_gather
from mmengine.model import MMDistributedDataParallel
from torch import distributed

from mmcrosscl.registry import MODELS
from tests.models.builders import make_batch, model_config

IMAGES, SIZE = 3, 64


def build():
    torch.manual_seed(0)
    model = MODELS.build(model_config(queue_len=10)).double()
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
        # now and then one rank, or all, have no region to contrast
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
