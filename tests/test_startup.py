"What a user waits for before anything happens, and the public names"
import subprocess
import sys

import pytest

import fastmer


def loaded(code):
    "Modules that `code` brings in, in a fresh process"
    done = subprocess.run([sys.executable, '-c', f'{code}\nimport sys; print(*sys.modules)'], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize('code', ['import fastmer', "from fastmer.cli import main\nmain(['--version'], standalone_mode=False)"])
def test_nothing_heavy_is_imported_at_once(code):
    assert not loaded(code) & {'torch', 'fastai', 'librosa', 'pandas', 'numpy', 'rich', 'transformers'}


def test_data_modules_know_no_torch():
    code = 'from fastmer import labels, manifest, audio_io, spectrogram, splits, metrics, prepare, runs, report, corpora'
    assert 'torch' not in loaded(code)


def test_every_public_name_is_there():
    for name in fastmer.__all__: assert getattr(fastmer, name) is not None
    with pytest.raises(AttributeError, match='no_such'): _ = fastmer.no_such


def test_python_dash_m():
    done = subprocess.run([sys.executable, '-m', 'fastmer', '--version'], capture_output=True, text=True, check=True)
    assert fastmer.__version__ in done.stdout


def test_every_command_has_help():
    from click.testing import CliRunner

    from fastmer.cli import COMMANDS, main
    for name in COMMANDS:
        done = CliRunner().invoke(main, [name, '--help'])
        assert done.exit_code == 0, name
        assert 'Usage' in done.output
    done = CliRunner().invoke(main, ['trian-audio'])
    assert done.exit_code == 2
    assert 'did you mean train-audio' in done.output
