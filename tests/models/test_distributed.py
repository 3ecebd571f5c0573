"""Negatives, gradients and synchronization of training in several processes."""

from multiprocessing import get_context

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign
from torch import multiprocessing

from tests.models import distributed_worker as worker

WORLD = 2


def run(job, folder, world=WORLD):
    # a server with all modules imported forks a process in a hundredth of the time
    get_context('forkserver').set_forkserver_preload([worker.__name__])
    context = multiprocessing.start_processes(
        worker.start, (world, str(folder), job), world, join=False, start_method='forkserver'
    )
    for _ in range(60):
        if context.join(timeout=5):
            break
    else:
        for process in context.processes:
            process.kill()
        pytest.fail('the processes did not finish within 5 minutes')
    return [torch.load(folder / f'rank{rank}.pth', weights_only=True) for rank in range(world)]


def regions(feature_map, stride, samples, view):
    rois = torch.cat(
        [
            F.pad(torch.from_numpy(s.regions(view)[s.paired]), (1, 0), value=i)
            for i, s in enumerate(samples)
        ]
    ).double()
    pooled = RoIAlign(1, 1 / stride, sampling_ratio=0, aligned=False)(
        feature_map.contiguous(), rois
    )
    return F.normalize(pooled.flatten(1), dim=1)


def cells(feature_map):
    return F.normalize(feature_map.flatten(2).transpose(1, 2).flatten(0, 1), dim=1)


def cross_entropy(query, positive, negatives):
    logits = torch.cat(((query * positive).sum(1, keepdim=True), query @ negatives.T), dim=1) / 0.2
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def expected():
    """Compute each rank's losses, the mean gradient and the queue in one process."""
    model = worker.build()
    batches = [
        worker.rank_batch(rank, key_crop=(0.05 * rank, 0.0, 0.9, 0.9)) for rank in range(WORLD)
    ]
    queue = model.queue.keys.clone()
    # keys are shuffled across ranks for batch norm, then restored to the original order
    step = torch.Generator().manual_seed(1)
    permutation = torch.randperm(WORLD * worker.IMAGES, generator=step)
    images = torch.cat([views[1] for views, _ in batches])[permutation]
    key_backbone, key_neck = model.key_encoder.backbone, model.key_encoder.neck
    key_backbone.load_state_dict(model.backbone.state_dict())
    key_neck.load_state_dict(model.neck.state_dict())
    with torch.no_grad():
        outputs = [key_neck(key_backbone(part)) for part in images.chunk(WORLD)]
    restore = permutation.argsort()
    keys = {name: torch.cat([o[name] for o in outputs])[restore] for name in outputs[0]}
    own = [{name: x.chunk(WORLD)[rank] for name, x in keys.items()} for rank in range(WORLD)]

    losses = []
    for (views, samples), key in zip(batches, own):
        query = model.neck(model.backbone(views[0]))
        q3, q4 = (regions(query[f'p{i}'], 2**i, samples, 'query') for i in (3, 4))
        k3, k4 = (regions(key[f'p{i}'], 2**i, samples, 'key') for i in (3, 4))
        n3, n4 = cells(key['p3']), cells(keys['p4'])
        losses.append(
            dict(
                loss_global=cross_entropy(
                    F.normalize(query['global'], dim=1), F.normalize(key['global'], dim=1), queue
                ),
                loss_p4_p4=cross_entropy(q4, k4, n4),
                loss_p3_p3=cross_entropy(q3, k3, n3),
                loss_p4_p3=cross_entropy(q4, k3, n3),
                loss_p3_p4=cross_entropy(q3, k4, n4),
            )
        )
    sum(sum(terms.values()) for terms in losses).div(WORLD).backward()
    new_keys = F.normalize(keys['global'], dim=1)
    queue[: len(new_keys)] = new_keys
    return losses, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, queue


def test_two_processes_match_one_process(tmp_path):
    losses, gradients, queue = expected()
    for rank, result in enumerate(run(worker.one_step, tmp_path)):
        for name, value in losses[rank].items():
            assert result['losses'][name] == pytest.approx(value.item(), rel=1e-9), (rank, name)
        assert result['gradients'].keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(
                result['gradients'][name], gradient, rtol=1e-6, atol=1e-9, msg=name
            )
        torch.testing.assert_close(result['queue'], queue, rtol=1e-9, atol=1e-12)
        assert result['pointer'].item() == WORLD * worker.IMAGES


def test_two_processes_have_equal_weights_even_if_a_rank_has_no_pairs(tmp_path):
    first, second = run(worker.twenty_steps, tmp_path)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert first['queue.pointer'].item() == 20 * WORLD * worker.IMAGES % 10
    assert first['key_encoder.steps'].item() == 20
