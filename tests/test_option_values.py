"""The texts of values in `--cfg-options`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcrosscl.errors import InputError
from mmcrosscl.option_values import format_options, format_value, parse_value

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda x: st.lists(x) | st.lists(x).map(tuple), max_leaves=8)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1', 1), ('1e-3', 0.001), ('true', True), ('None', None), ('epoch_1.pth', 'epoch_1.pth'),
        ('[1,2]', [1, 2]), ('(1, 2)', (1, 2)), ('(0.5)', (0.5,)), ('(0.5,)', (0.5,)), ('[]', []),
        ('a,b', ['a', 'b']), ('[a, [b,(1,2)]]', ['a', ['b', (1, 2)]]), ("'[1,2]'", [1, 2]),
        # what MMEngine changes
        ('my runs/a.pth', 'my runs/a.pth'), ('[my runs, b]', ['my runs', 'b']),
        ("'a,b.pth'", 'a,b.pth'), ('"1"', '1'), ("['a,b',c]", ['a,b', 'c']),
        ("it's", "it's"), ("[it's,b]", ["it's", 'b']), ('a(1,2)', 'a(1,2)'),
        ("'a','b'", ['a', 'b']), ('', ''),
    ],
)  # fmt: skip
def test_values_are_parsed(text, value):
    found = parse_value(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize('text', ['[1,2', '(a', '[1,2)', "'[1'"])
def test_brackets_that_do_not_match_are_refused(text):
    with pytest.raises(ValueError, match='the brackets of .* do not match'):
        parse_value(text)


@given(VALUES)
def test_a_formatted_value_is_parsed_to_the_same_value(value):
    assert repr(parse_value(format_value(value))) == repr(value)


def test_a_path_is_formatted_as_text():
    assert format_value(Path('a/b c')) == 'a/b c' and format_value(Path('a,b')) == "'a,b'"


def test_options_are_formatted():
    options = {'a.b': dict(c=1, d=dict(e=[1, 2, 'x'])), 'f': (0.5,), 'g': None}
    assert format_options(options) == ['a.b.c=1', 'a.b.d.e=[1,2,x]', 'f=(0.5)', 'g=None']


@pytest.mark.parametrize(
    ('value', 'message'),
    [([1, [dict(a=1)]], 'a.b contains a dict in a list'), ({}, 'a.b is an empty dict')],
)
def test_an_option_that_a_command_line_cannot_express_is_refused(value, message):
    with pytest.raises(InputError, match=f'the option {message}, which a command line cannot'):
        format_options({'a': dict(b=value)})
