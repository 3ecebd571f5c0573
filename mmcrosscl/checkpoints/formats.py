"""Weight names of the ResNet, pyramid and projection in the checkpoints of each project.

Each :class:`Format` translates the names of one project to the names of
:class:`~mmcrosscl.models.CrossCL`. In CrossCL, the name of a backbone weight is ``backbone.``
followed by its name in torchvision's ResNet. The name of a pyramid weight is ``neck.`` followed by
its name in MMDetection's ``FPN`` over C2 to C5.
"""

import re
from dataclasses import dataclass

RESNET = r'((?:conv1|bn1|layer[1-4])\..+)'
PYRAMID = r'neck\.(?:lateral|fpn)_convs\.'


class Skipped(str):
    """Reason why a weight is skipped."""


COARSE = Skipped('a level coarser than P5, the last level of CrossCL')
DENSE = Skipped('part of the dense branch, which CrossCL does not have')
HEAD = Skipped('belongs to another task')

Rule = tuple[str, str | Skipped]


@dataclass(frozen=True)
class Format:
    """Weight names of one project.

    Attributes:
        kind: Human-readable name of the project.
        telltale: Regular expression that identifies the format. It matches a name in this format,
            but no name in the formats that follow in FORMATS.
        rules: Pairs of a regular expression for a name, and the CrossCL name or the reason to skip
            the weight. The first pair whose expression matches applies.
        common: True if other projects have names that match the telltale too. A checkpoint with
            further names is then searched for a ResNet.
    """

    kind: str
    telltale: str
    rules: tuple[Rule, ...]
    common: bool = False

    def translate(self, name: str) -> str | Skipped | None:
        """Return the CrossCL name, the reason to skip the weight, or None for an unknown name."""
        for pattern, target in self.rules:
            if match := re.fullmatch(pattern, name):
                return target if isinstance(target, Skipped) else match.expand(target)
        return None


def _contrastive() -> tuple[Rule, ...]:
    """Return the rules for MoCo and its successors: a query encoder, a key encoder and a queue."""
    rules = []
    for encoder, prefix in (('encoder_q', ''), ('encoder_k', 'key_encoder.')):
        # DenseCL's encoder is a sequence: 0 is the backbone, 1 is the neck
        rules.append((rf'{encoder}\.(?:0\.)?{RESNET}', rf'{prefix}backbone.\1'))
        for level in (3, 4, 5):
            for conv, convs in (('lateral', 'lateral_convs'), ('output', 'fpn_convs')):
                name, target = rf'{encoder}\.fpn_{conv}{level}', f'{prefix}neck.{convs}.{level - 2}'
                rules.append((rf'{name}\.(?:0\.)?(weight|bias)', rf'{target}.conv.\1'))
                rules.append((rf'{name}\.1\.(.+)', rf'{target}.bn.\1'))
        rules += [
            (rf'{encoder}\.(?:fc|1\.mlp)\.([02]\..+)', rf'{prefix}neck.projection.mlp.\1'),
            (rf'{encoder}\.fc\..+', Skipped('a one-layer projection; CrossCL has two layers')),
            (rf'{encoder}\.1\.mlp2\..+', DENSE),
        ]
    return (
        *rules,
        ('queue', 'queue.keys'),
        ('queue_ptr', 'queue.pointer'),
        (r'queue2(?:_ptr)?', DENSE),
        (r'backbone\..+', Skipped('a copy of encoder_q')),
    )


def _detectron2() -> tuple[Rule, ...]:
    pairs = [
        (r'stem\.conv1\.norm\.(.+)', r'backbone.bn1.\1'),
        (r'stem\.conv1\.(.+)', r'backbone.conv1.\1'),
    ]
    for stage in (2, 3, 4, 5):
        block, target = rf'res{stage}\.(\d+)', rf'backbone.layer{stage - 1}.\1'
        pairs += [
            (rf'{block}\.conv(\d)\.norm\.(.+)', rf'{target}.bn\2.\3'),
            (rf'{block}\.conv(\d)\.(.+)', rf'{target}.conv\2.\3'),
            (rf'{block}\.shortcut\.norm\.(.+)', rf'{target}.downsample.1.\2'),
            (rf'{block}\.shortcut\.(.+)', rf'{target}.downsample.0.\2'),
        ]
        for conv, convs in (('lateral', 'lateral_convs'), ('output', 'fpn_convs')):
            pairs += [
                (rf'fpn_{conv}{stage}\.norm\.(.+)', rf'neck.{convs}.{stage - 2}.bn.\1'),
                (rf'fpn_{conv}{stage}\.(.+)', rf'neck.{convs}.{stage - 2}.conv.\1'),
            ]
    return (
        *((rf'(?:(?:backbone|bottom_up|roi_heads)\.)*{name}', target) for name, target in pairs),
        (r'(?:backbone\.)?top_block\..+', COARSE),
        (r'(?:.+\.)?(?:stem\.fc|linear)\..+', HEAD),
        (r'(?:proposal_generator|roi_heads|head|pixel_mean|pixel_std)(?:\..+)?', HEAD),
    )


# a checkpoint has the first format in this order whose telltale matches
FORMATS = (
    Format(
        'CrossCL of mmcrosscl',
        r'key_encoder\..+|queue\.keys|neck\.projection\..+',
        ((r'((?:backbone|neck|key_encoder|queue)\..+)', r'\1'),),
    ),
    Format('CrossCL of the reference, or ReSim', r'encoder_q\.fpn_.+', _contrastive()),
    Format('DenseCL', r'encoder_q\.1\.mlp2\..+|queue2', _contrastive()),
    Format('MoCo v2', r'encoder_q\.(?:fc|1\.mlp)\.0\..+', _contrastive(), common=True),
    Format('MoCo v1', r'encoder_q\..+', _contrastive(), common=True),
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
            (r'neck\..+', Skipped('not part of an FPN')),
            (r'(?:encoder_k|queue2?)(?:[._].+)?', Skipped('part of another method')),
            (r'(?:\w+_)?head\..+|data_preprocessor\..+', HEAD),
        ),
        common=True,
    ),
    Format(
        'torchvision or timm',
        r'conv1\.weight',
        ((RESNET, r'backbone.\1'), (r'fc\..+', HEAD)),
        common=True,
    ),
)

# a detector or classifier with any backbone
DETECTOR = Format(
    'MMDetection or MMPretrain',
    r'backbone\..+',
    (
        (r'(backbone\..+)', r'\1'),
        (r'neck\.(.+)', r'neck.detector.\1'),
        # also of names with line breaks
        (r'(?s:.*)', Skipped('not part of the backbone or the neck')),
    ),
)


def to_detectron2(name: str) -> str:
    """Return the Detectron2 name of a CrossCL backbone or pyramid weight.

    The name has no prefix of a model, such as ``backbone.bottom_up.``.
    """
    if match := re.fullmatch(r'neck\.(lateral|fpn)_convs\.(\d)\.(conv|bn)\.(.+)', name):
        conv, level, layer, field = match.groups()
        conv = 'lateral' if conv == 'lateral' else 'output'
        return f'fpn_{conv}{int(level) + 2}.{"norm." if layer == "bn" else ""}{field}'
    name = name.removeprefix('backbone.')
    if not name.startswith('layer'):
        name = f'stem.{name}'
    name = re.sub(r'layer(\d)', lambda match: f'res{int(match.group(1)) + 1}', name)
    name = re.sub(r'\bbn(\d)', r'conv\1.norm', name)
    return name.replace('downsample.0', 'shortcut').replace('downsample.1', 'shortcut.norm')
