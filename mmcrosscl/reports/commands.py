"""Commands that continue with the results of a run."""

import shlex
from dataclasses import dataclass
from datetime import datetime

from mmcrosscl.option_values import format_value

from .collect import Run

# config for fine-tuning by the depth of the pre-trained ResNet
FINE_TUNING = {
    '18': 'mmcrosscl::detection/faster-rcnn_r18_demo.py',
    '50': 'mmcrosscl::detection/mask-rcnn_r50_fpn_1x_coco.py',
}


@dataclass(frozen=True)
class Command:
    """A shell command, and what it does."""

    purpose: str
    line: str


def next_commands(run: Run, now: datetime) -> list[Command]:
    """Return the commands that continue with a run.

    Args:
        run (Run): The run.
        now (datetime): Time of the report, in local time.
    """
    commands = []
    state = run.state(now)
    if run.config_file is not None and state != 'finished':
        words = ['mmcrosscl', 'train', str(run.config_file), '--work-dir', str(run.work_dir)]
        environment = run.last_session.environment if run.last_session else {}
        processes = environment.get('GPU number', '1')
        if processes.isdecimal() and int(processes) > 1:
            words += ['--gpus', processes]
        purpose = 'Resume the training' + ', after it has ended' * (state == 'in progress')
        commands.append(Command(purpose, shlex.join([*words, '--resume'])))
    if run.newest is None:
        return commands
    checkpoint = str(run.newest.path)
    if not run.pretraining:
        words = ['mmcrosscl', 'test', str(run.config_file), checkpoint]
        if run.config_file is not None:
            commands.append(Command('Test the detector', shlex.join(words)))
        return commands
    # the depth of a backbone of another project can be a list
    config = FINE_TUNING.get(str(run.config.get('model.backbone.depth')))
    if str(run.config.get('model.neck.type')).endswith('CrossCLNeck') and config:
        purpose = 'Fine-tune a detector from the newest checkpoint'
    else:
        config = 'my_detector.py'
        purpose = 'Fine-tune your detector from the newest checkpoint'
    words = [
        'mmcrosscl',
        'train',
        config,
        '--cfg-options',
        f'pretrained={format_value(checkpoint)}',
    ]
    commands.append(Command(purpose, shlex.join(words)))
    target = run.newest.path.with_name(f'{run.newest.path.stem}_mmdet.pth')
    words = ['mmcrosscl', 'convert', checkpoint, str(target), '--to', 'mmdet']
    commands.append(Command('Convert it for MMDetection', shlex.join(words)))
    return commands
