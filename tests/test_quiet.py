import io
import sys
import warnings

import pytest

from mmcrosscl.quiet import QuietStream, quiet_output


def test_lines_of_dependencies_are_dropped_and_others_pass(capsys):
    with quiet_output():
        print('Could not import OneDL. Skipping OneDL datasets.')
        for line in ('loading annotations into memory...', 'Done (t=0.01s)', 'creating index...'):
            print(line)
        print('index created!')
        print('Loads checkpoint by mmcrosscl backend from path: work/iter 1.pth')
        print('11/25 20:41:16 - mmengine - INFO - backbone out_strides: [4, 8, 16, 32]')
        print('index created! by the user')
        print('Done (t=0.01s) with more', end='')
    assert capsys.readouterr().out == 'index created! by the user\nDone (t=0.01s) with more'


def test_warnings_of_dependencies_are_dropped_and_others_pass():
    with pytest.warns(UserWarning) as caught, quiet_output():
        warnings.warn(
            'faster_coco_eval is not installed, metrics will not be computed.', stacklevel=1
        )
        warnings.warn(
            'Setting MKL_NUM_THREADS environment variable for each process to be 1', stacklevel=1
        )
        warnings.warn('torch.meshgrid: in an upcoming release, it will be …', stacklevel=1)
        warnings.warn(r"invalid escape sequence '\d'", SyntaxWarning, stacklevel=1)
        warnings.warn('important', stacklevel=1)
    assert [str(warning.message) for warning in caught] == ['important']


def test_an_incomplete_line_is_written_when_it_is_flushed():
    stream = io.StringIO()
    quiet = QuietStream(stream)
    quiet.write('Password')
    assert stream.getvalue() == ''
    quiet.flush()
    quiet.write(': ')
    quiet.flush()
    assert stream.getvalue() == 'Password: '


def test_stdout_is_restored(capsys):
    before = sys.stdout
    with quiet_output():
        assert sys.stdout.encoding == before.encoding
    assert sys.stdout is before
