"""Losses, gradients and weights match the authors' implementation."""

import pytest
import torch

from tests.models import golden

ROI_ALIGN = dict(type='RoIAlign', output_size=1, sampling_ratio=0, aligned=False)
PR_ROI = dict(type='PrRoIPool', output_size=1)
TERMS = ['loss_global', 'loss_p4_p4', 'loss_p3_p3', 'loss_p4_p3', 'loss_p3_p4']


def train_three_steps(model, device='cpu', dtype=torch.float64):
    """Return the losses of each step, and the gradient norms of the first step."""
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.03, momentum=0.9, weight_decay=1e-4
    )
    history, norms = [], {}
    for step in range(3):
        views, samples = golden.batch(step)
        views = [view.to(device, dtype) for view in views]
        losses = model.loss(views, [sample.to(device) for sample in samples])
        history.append([losses[name].item() for name in TERMS])
        optimizer.zero_grad()
        sum(losses[name] for name in TERMS).backward()
        if step == 0:
            names = golden.reference_names(model)
            norms = {
                names[name]: p.grad.norm().item()
                for name, p in model.named_parameters()
                if name in names
            }
        optimizer.step()
    return history, norms


def encoder_norms(model, prefix):
    names = golden.reference_names(model)
    parameters = dict(model.named_parameters())
    return {
        reference: parameters[prefix + actual].norm().item() for actual, reference in names.items()
    }


@pytest.mark.parametrize(
    'device',
    [pytest.param('cpu', marks=pytest.mark.slow), pytest.param('cuda', marks=pytest.mark.gpu)],
)
def test_three_steps_match_the_reference(device):
    expected = golden.load('roi_align_seed1.json')
    model = golden.build(ROI_ALIGN).to(device)
    history, grad_norms = train_three_steps(model, device)

    assert sum(s.paired.sum().item() for s in golden.batch(0)[1]) == expected['valid']
    assert history[0] == pytest.approx(expected['losses'][0], rel=1e-7)
    assert grad_norms == pytest.approx(expected['grad_norm'], rel=1e-7)
    for losses, reference in zip(history[1:], expected['losses'][1:]):
        assert losses == pytest.approx(reference, rel=1e-4)
    assert encoder_norms(model, '') == pytest.approx(expected['query_norm'], rel=1e-4)
    assert encoder_norms(model, 'key_encoder.') == pytest.approx(expected['key_norm'], rel=1e-4)
    assert model.queue.pointer.item() == expected['queue_ptr']
    head = model.queue.keys.T[:8, :14].cpu()
    torch.testing.assert_close(
        head, torch.tensor(expected['queue_head'], dtype=torch.float64), rtol=1e-4, atol=1e-6
    )


@pytest.mark.gpu
def test_precise_pooling_is_near_the_reference_on_a_gpu():
    # mmcv's kernel has neither a CPU nor a float64 version
    expected = golden.load('prroi_seed1.json')
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = golden.build(PR_ROI).float().cuda()
    history, grad_norms = train_three_steps(model, 'cuda', torch.float32)

    assert history[0] == pytest.approx(expected['losses'][0], rel=1e-4)
    assert grad_norms == pytest.approx(expected['grad_norm'], rel=1e-2)
    # Rounding errors grow with each step: on a CPU, weights in float32 differ by up to 1.7 %.
    for losses, reference in zip(history[1:], expected['losses'][1:]):
        assert losses == pytest.approx(reference, rel=2e-2)
    assert encoder_norms(model, '') == pytest.approx(expected['query_norm'], rel=5e-2)
    assert encoder_norms(model, 'key_encoder.') == pytest.approx(expected['key_norm'], rel=5e-2)
    assert model.queue.pointer.item() == expected['queue_ptr']
