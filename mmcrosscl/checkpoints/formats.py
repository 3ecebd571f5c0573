"""How other projects name the weights of a ResNet, a pyramid and a projection.

Our names are those of :class:`~mmcrosscl.models.CrossCL`: ``backbone.`` before torchvision's ResNet
names, ``neck.`` before those of MMDetection's ``FPN`` over C2 to C5.
"""

import re
from dataclasses import dataclass

RESNET = r'((?:conv1|bn1|layer[1-4])\..+)'
PYRAMID = r'neck\.(?:lateral|fpn)_convs\.'


class LeaveOut(str):
    """Why a weight is not taken over."""


COARSE = LeaveOut('coarser than P5, which is where CrossCL ends')
DENSE = LeaveOut('of the dense branch, which CrossCL has not')
HEAD = LeaveOut('belongs to another task')

Rule = tuple[str, str | LeaveOut]


@dataclass(frozen=True)
class Format:
    """One project's names.

    Attributes:
        kind: Whose they are.
        telltale: Pattern of a name that only this format has, among those after it.
        rules: Pattern of a name, and our name for it or why it is left out; the first that fits.
    """

    kind: str
    telltale: str
    rules: tuple[Rule, ...]

    def translate(self, name: str) -> str | LeaveOut | None:
        """Our name, why it is left out, or None if the name is unknown."""
        for pattern, ours in self.rules:
            if match := re.fullmatch(pattern, name):
                return ours if isinstance(ours, LeaveOut) else match.expand(ours)
        return None


def _contrastive() -> tuple[Rule, ...]:
    """Names of MoCo and its children: an encoder for queries, one for keys, a queue."""
    rules = []
    for theirs, ours in (('encoder_q', ''), ('encoder_k', 'key_encoder.')):
        # DenseCL's encoder is a sequence of backbone and neck
        rules.append((rf'{theirs}\.(?:0\.)?{RESNET}', rf'{ours}backbone.\1'))
        for level in (3, 4, 5):
            for conv, place in (('lateral', 'lateral_convs'), ('output', 'fpn_convs')):
                name, target = rf'{theirs}\.fpn_{conv}{level}', f'{ours}neck.{place}.{level - 2}'
                rules.append((rf'{name}\.(?:0\.)?(weight|bias)', rf'{target}.conv.\1'))
                rules.append((rf'{name}\.1\.(.+)', rf'{target}.bn.\1'))
        rules += [
            (rf'{theirs}\.(?:fc|1\.mlp)\.([02]\..+)', rf'{ours}neck.projection.mlp.\1'),
            (rf'{theirs}\.fc\..+', LeaveOut('a single layer, where CrossCL projects with two')),
            (rf'{theirs}\.1\.mlp2\..+', DENSE),
        ]
    return (
        *rules,
        ('queue', 'queue.keys'),
        ('queue_ptr', 'queue.pointer'),
        (r'queue2(?:_ptr)?', DENSE),
        (r'backbone\..+', LeaveOut('stands in encoder_q too')),
    )


def _detectron2() -> tuple[Rule, ...]:
    pairs = [
        (r'stem\.conv1\.norm\.(.+)', r'backbone.bn1.\1'),
        (r'stem\.conv1\.(.+)', r'backbone.conv1.\1'),
    ]
    for stage in (2, 3, 4, 5):
        block, ours = rf'res{stage}\.(\d+)', rf'backbone.layer{stage - 1}.\1'
        pairs += [
            (rf'{block}\.conv(\d)\.norm\.(.+)', rf'{ours}.bn\2.\3'),
            (rf'{block}\.conv(\d)\.(.+)', rf'{ours}.conv\2.\3'),
            (rf'{block}\.shortcut\.norm\.(.+)', rf'{ours}.downsample.1.\2'),
            (rf'{block}\.shortcut\.(.+)', rf'{ours}.downsample.0.\2'),
        ]
        for conv, place in (('lateral', 'lateral_convs'), ('output', 'fpn_convs')):
            pairs += [
                (rf'fpn_{conv}{stage}\.norm\.(.+)', rf'neck.{place}.{stage - 2}.bn.\1'),
                (rf'fpn_{conv}{stage}\.(.+)', rf'neck.{place}.{stage - 2}.conv.\1'),
            ]
    return (
        *((rf'(?:(?:backbone|bottom_up|roi_heads)\.)*{name}', ours) for name, ours in pairs),
        (r'(?:backbone\.)?top_block\..+', COARSE),
        (r'(?:.+\.)?(?:stem\.fc|linear)\..+', HEAD),
        (r'(?:proposal_generator|roi_heads|head|pixel_mean|pixel_std)(?:\..+)?', HEAD),
    )


# in the order in which they are tried
FORMATS = (
    Format(
        'CrossCL of mmcrosscl',
        r'key_encoder\..+|queue\.keys|neck\.projection\..+',
        ((r'((?:backbone|neck|key_encoder|queue)\..+)', r'\1'),),
    ),
    Format('CrossCL of the reference, or ReSim', r'encoder_q\.fpn_.+', _contrastive()),
    Format('DenseCL', r'encoder_q\.1\.mlp2\..+|queue2', _contrastive()),
    Format('MoCo v2', r'encoder_q\.(?:fc|1\.mlp)\.0\..+', _contrastive()),
    Format('MoCo v1', r'encoder_q\..+', _contrastive()),
    Format('Detectron2', r'(?:.+\.)?res2\.0\.conv1\.weight', _detectron2()),
    Format(
        'MMDetection or MMPretrain',
        r'backbone\.conv1\.weight',
        (
            (rf'backbone\.{RESNET}', r'backbone.\1'),
            (r'roi_head\.shared_head\.(layer4\..+)', r'backbone.\1'),
            (rf'({PYRAMID}[0-3]\.(?:conv|bn)\..+)', r'\1'),
            (rf'{PYRAMID}.+', COARSE),
            (r'neck\.mlp\.([02]\..+)', r'neck.projection.mlp.\1'),
            (r'neck\.mlp2\..+', DENSE),
            (r'neck\..+', LeaveOut('no part of an FPN')),
            (r'(?:encoder_k|queue2?)(?:[._].+)?', LeaveOut('of another method')),
            (r'(?:\w+_)?head\..+|data_preprocessor\..+', HEAD),
        ),
    ),
    Format(
        'torchvision or timm',
        r'conv1\.weight',
        ((RESNET, r'backbone.\1'), (r'fc\..+', HEAD)),
    ),
)


def to_detectron2(ours: str) -> str:
    """Detectron2's name for a backbone or pyramid weight, without its model's prefixes."""
    if match := re.fullmatch(r'neck\.(lateral|fpn)_convs\.(\d)\.(conv|bn)\.(.+)', ours):
        conv, place, kind, field = match.groups()
        conv = 'lateral' if conv == 'lateral' else 'output'
        return f'fpn_{conv}{int(place) + 2}.{"norm." if kind == "bn" else ""}{field}'
    name = ours.removeprefix('backbone.')
    if not name.startswith('layer'):
        name = f'stem.{name}'
    name = re.sub(r'layer(\d)', lambda match: f'res{int(match.group(1)) + 1}', name)
    name = re.sub(r'\bbn(\d)', r'conv\1.norm', name)
    return name.replace('downsample.0', 'shortcut').replace('downsample.1', 'shortcut.norm')
