"""A ResNet-FPN with the structure and names of Detectron2, which is not on PyPI.

The model follows Detectron2's documentation:

- The 3×3 convolution has the stride (STRIDE_IN_1X1 False).
- Each convolution contains its norm.
- The pyramid upsamples maps by nearest-neighbor interpolation and adds them top-down.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv(nn.Conv2d):
    """A convolution that contains its norm."""

    def __init__(self, inputs, outputs, kernel, stride=1, norm=True, bias=False):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=bias)
        self.norm = nn.BatchNorm2d(outputs) if norm else None

    def forward(self, x):
        x = super().forward(x)
        return x if self.norm is None else self.norm(x)


class Block(nn.Module):
    """A basic block for depth 18, or a bottleneck block for depth 50."""

    def __init__(self, inputs, outputs, stride, bottleneck):
        super().__init__()
        if inputs != outputs or stride != 1:
            self.shortcut = Conv(inputs, outputs, 1, stride)
        else:
            self.shortcut = None
        if bottleneck:
            self.conv1 = Conv(inputs, outputs // 4, 1)
            self.conv2 = Conv(outputs // 4, outputs // 4, 3, stride)
            self.conv3 = Conv(outputs // 4, outputs, 1)
        else:
            self.conv1 = Conv(inputs, outputs, 3, stride)
            self.conv2 = Conv(outputs, outputs, 3)

    def forward(self, x):
        out = self.conv2(F.relu(self.conv1(x)))
        if hasattr(self, 'conv3'):
            out = self.conv3(F.relu(out))
        return F.relu(out + (x if self.shortcut is None else self.shortcut(x)))


class BottomUp(nn.Module):
    def __init__(self, depth):
        super().__init__()
        bottleneck = depth == 50
        self.stem = nn.Module()
        self.stem.conv1 = Conv(3, 64, 7, 2)
        inputs = 64
        for stage, blocks in enumerate((3, 4, 6, 3) if bottleneck else (2, 2, 2, 2)):
            outputs = 64 * 2**stage * (4 if bottleneck else 1)
            strides = [1 if stage == 0 else 2] + [1] * (blocks - 1)
            layers = []
            for stride in strides:
                layers.append(Block(inputs, outputs, stride, bottleneck))
                inputs = outputs
            self.add_module(f'res{stage + 2}', nn.Sequential(*layers))
        self.width = inputs

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem.conv1(x)), 3, 2, 1)
        stages = {}
        for stage in (2, 3, 4, 5):
            stages[stage] = x = self.get_submodule(f'res{stage}')(x)
        return stages


class Backbone(nn.Module):
    def __init__(self, depth, norm):
        super().__init__()
        self.bottom_up = BottomUp(depth)
        conv = dict(norm=norm, bias=not norm)
        for stage in (2, 3, 4, 5):
            width = self.bottom_up.width // 2 ** (5 - stage)
            self.add_module(f'fpn_lateral{stage}', Conv(width, 256, 1, **conv))
            self.add_module(f'fpn_output{stage}', Conv(256, 256, 3, **conv))

    def forward(self, x):
        stages = self.bottom_up(x)
        result, top = {f'c{stage}': x for stage, x in stages.items()}, None
        for stage in (5, 4, 3, 2):
            lateral = self.get_submodule(f'fpn_lateral{stage}')(stages[stage])
            if top is not None:
                lateral = lateral + F.interpolate(top, scale_factor=2.0, mode='nearest')
            result[f'p{stage}'] = self.get_submodule(f'fpn_output{stage}')(lateral)
            top = lateral
        return result


class Detector(nn.Module):
    """The backbone of an R-CNN, into which Detectron2 loads `MODEL.WEIGHTS`."""

    def __init__(self, depth: int = 18, norm: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone(depth, norm)

    def load(self, contents: dict) -> set[str]:
        """Load weights like ``DetectionCheckpointer`` with `matching_heuristics`.

        A weight in the file matches a weight of the model if the name in the model ends with the
        name in the file, after a dot.

        Returns:
            set[str]: Names of the weights that match nothing and remain random.
        """
        assert contents['matching_heuristics'] and contents['__author__'] != 'Caffe2'
        state, used = self.state_dict(), set()
        for name in state:
            found = [n for n in contents['model'] if name == n or name.endswith('.' + n)]
            if found:
                best = max(found, key=len)
                state[name] = contents['model'][best]
                used.add((name, best))
        assert {best for _, best in used} == set(contents['model']), 'some weights match no name'
        self.load_state_dict(state)
        return self.state_dict().keys() - {name for name, _ in used}

    @torch.no_grad()
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.backbone(image)
