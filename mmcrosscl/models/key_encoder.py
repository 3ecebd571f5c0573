"""The momentum encoder of the key view."""

from copy import deepcopy

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mmcrosscl.errors import InputError

from .communication import BatchShuffle


class KeyEncoder(nn.Module):
    """Moving average of a backbone and neck: ``k ← (1 − m)·k + m·q`` on parameters only.

    He et al., 2020 (https://arxiv.org/abs/1911.05722), equation 2, with 1 − m in place of its m, as
    in MMEngine's averaged models. Batch norm has its own running statistics. The first update
    starts with a copy of the query encoder, so that any initialization of the query encoder
    applies. A loaded checkpoint with updates is not overwritten.

    Args:
        backbone (nn.Module): The query's backbone.
        neck (nn.Module): The query's neck.
        momentum (float): m, above 0 and at most 1.

    Raises:
        InputError: If the momentum is out of range.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, momentum: float) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise InputError(f'momentum is {momentum}; it must be above 0 and at most 1')
        self.backbone = deepcopy(backbone).requires_grad_(False)
        self.neck = deepcopy(neck).requires_grad_(False)
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))
        self._follow = get_ema_multi_avg_fn(1 - momentum)
        # copy of `steps` in host memory, so that a GPU is waited for only once
        self._step: int | None = None

    @torch.no_grad()
    def update(self, backbone: nn.Module, neck: nn.Module) -> None:
        """Update the parameters towards those of the query's backbone and neck."""
        if self._step is None:
            self._step = int(self.steps)
            if self._step == 0:
                self.backbone.load_state_dict(backbone.state_dict())
                self.neck.load_state_dict(neck.state_dict())
        followers = [*self.backbone.parameters(), *self.neck.parameters()]
        leaders = [*backbone.parameters(), *neck.parameters()]
        self._follow(followers, leaders, None)
        self.steps += 1
        self._step += 1

    @torch.no_grad()
    def forward(self, view: Tensor) -> dict[str, Tensor]:
        """Encode the key views of this rank.

        Between ranks the images are shuffled around the encoding, so that the statistics of batch
        norm do not tell which keys belong to one rank's queries.

        Args:
            view (Tensor): (N, 3, S, S), normalized.

        Returns:
            dict[str, Tensor]: The neck's output for the N views, in their order.
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
