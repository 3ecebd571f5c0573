"""The momentum encoder of the key view."""

from copy import deepcopy

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mmcrosscl.errors import InputError

from .communication import BatchShuffle


class KeyEncoder(nn.Module):
    """Exponential moving average of the query encoder, which is a backbone and a neck.

    An update computes ``k ← (1 − m)·k + m·q`` for every parameter. This is equation 2 of He et al.,
    2020 (https://arxiv.org/abs/1911.05722). As in MMEngine's averaged models, m is the weight of
    the query encoder, which He et al. write as 1 − m. The batch norm layers of the key encoder keep
    their own running statistics.

    The first update copies the query encoder before it averages, so that the key encoder starts
    from any initialization of the query encoder. If a loaded checkpoint contains at least one
    update, its key encoder is not overwritten.

    Args:
        backbone (nn.Module): Backbone of the query encoder.
        neck (nn.Module): Neck of the query encoder.
        momentum (float): m, above 0 and at most 1.

    Raises:
        InputError: If the momentum is out of range.
    """

    steps: Tensor

    def __init__(self, backbone: nn.Module, neck: nn.Module, momentum: float) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise InputError(f'momentum is {momentum}; it must be above 0 and at most 1')
        self.backbone = deepcopy(backbone).requires_grad_(False)
        self.neck = deepcopy(neck).requires_grad_(False)
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))
        self._update_averages = get_ema_multi_avg_fn(1 - momentum)
        # copy of `steps` in host memory, because reading `steps` waits for the GPU
        self._step: int | None = None

    @torch.no_grad()
    def update(self, backbone: nn.Module, neck: nn.Module) -> None:
        """Move the parameters towards the parameters of the query's backbone and neck."""
        if self._step is None:
            self._step = int(self.steps)
            if self._step == 0:
                self.backbone.load_state_dict(backbone.state_dict())
                self.neck.load_state_dict(neck.state_dict())
        averages = [*self.backbone.parameters(), *self.neck.parameters()]
        parameters = [*backbone.parameters(), *neck.parameters()]
        self._update_averages(averages, parameters, None)
        self.steps += 1
        self._step += 1

    @torch.no_grad()
    def forward(self, view: Tensor) -> dict[str, Tensor]:
        """Encode the key views of this rank.

        With several ranks, the images are shuffled across ranks for the encoding, and their
        features are returned to the original ranks. Without shuffling, the batch norm statistics
        would reveal which keys belong to the queries of a rank.

        Args:
            view (Tensor): (N, 3, S, S), normalized.

        Returns:
            dict[str, Tensor]: The neck's output for the N views, in the order of ``view``.
        """
        if get_world_size() == 1:
            return self.neck(self.backbone(view))
        if self._step is None:
            self._step = int(self.steps)
        shuffle = BatchShuffle(len(view), self._step, view.device)
        features = self.neck(self.backbone(shuffle.shuffle(view)))
        returning = {name: shuffle.start_restore(x) for name, x in features.items()}
        return {name: wait() for name, wait in returning.items()}

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._step = None
