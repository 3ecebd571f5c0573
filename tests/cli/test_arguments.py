"""The values of `--cfg-options`."""

import argparse

import pytest

from mmcrosscl.cli.arguments import add_option_argument


def parse(option):
    parser = argparse.ArgumentParser()
    add_option_argument(parser)
    return parser.parse_args(['--cfg-options', option]).cfg_options


@pytest.mark.parametrize(
    'value',
    [
        'dict(type=ResNet,depth=18)',
        "[dict(query='p5', key='p4', negatives='all_ranks')]",
        "'[dict(scale=(64, 64), type=X)]'",
        '[LoadImage,{type:TwoCrops}]',
        "[{'query': 'p5', 'path': '/data/x'}]",
        '{a:{b:1}}',
        '({a:1},2)',
    ],
)
def test_a_dict_is_a_usage_error(value, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(f'model.head.terms={value}')
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert '--cfg-options: model.head.terms contains a dict, which' in message
    assert message.endswith('set it in a config file that inherits from this one, or in that of '
                            '--changes of mmcrosscl pretrain\n')  # fmt: skip


@pytest.mark.parametrize(
    'value, expected',
    [
        ('epoch_{}.pth', 'epoch_{}.pth'),
        ('{epoch:d}_{step:d}.pth', '{epoch:d}_{step:d}.pth'),
        ('/data/{set:a}/dict(1)', '/data/{set:a}/dict(1)'),
        ('{}', '{}'),
        ('my_dict(1)', 'my_dict(1)'),
        ('[{a},img_{b:d}.png]', ['{a}', 'img_{b:d}.png']),
        ('[(1,2),x]', [(1, 2), 'x']),
    ],
)
def test_braces_in_a_text_are_not_a_dict(value, expected):
    assert parse(f'a.b={value}') == {'a.b': expected}


def test_brackets_that_do_not_match_are_a_usage_error(capsys):
    with pytest.raises(SystemExit) as caught:
        parse('model.strides=[1,2')
    assert caught.value.code == 2
    assert 'model.strides is not a value: the brackets of [1,2 do' in capsys.readouterr().err


def test_spaces_in_a_path_are_kept():
    assert parse('pretrained=my runs/a.pth') == {'pretrained': 'my runs/a.pth'}
