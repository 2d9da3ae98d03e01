"""`learner.pkl` and its sidecar `learner.json`: written together, and checked together before anything is unpickled

A pickle runs code when it is loaded. The SHA-256 in the sidecar tells a damaged file, not a hostile one: load learners that you trust.
"""
import hashlib
import platform
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ._version import __version__
from .errors import FastmerError
from .manifest import write_json
from .runs import read_json

FORMAT = 1  # of the sidecar; a learner of another format is refused
PACKAGES = ('fastai', 'torch', 'torchvision', 'transformers', 'timm')
SYSTEMS = ('audio', 'text', 'fusion')


def sha256_file(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        while block := f.read(1 << 20): digest.update(block)
    return digest.hexdigest()


def versions():
    "The versions that a learner was made with; packages that are not installed are left out"
    out = dict(fastmer=__version__, python=platform.python_version())
    for name in PACKAGES:
        try: out[name] = version(name)
        except PackageNotFoundError: pass
    return out


def export_learner(learn, folder, sidecar):
    "Write `learner.pkl` and then `learner.json` into `folder`; `sidecar` is what the caller knows (`system`, `vocab`, `split`, ids, ...)"
    folder = Path(folder)
    learn.path = folder
    learn.export('learner.pkl')
    write_json(folder/'learner.json', dict(format=FORMAT, versions=versions(), sha256=sha256_file(folder/'learner.pkl'), **sidecar))


def read_sidecar(path):
    "The sidecar of the learner at `path` (its `.pkl` or its run folder), checked; raises `FastmerError` where it cannot be used here"
    path = Path(path)
    if path.is_dir(): path = path/'learner.pkl'
    if not path.is_file(): raise FastmerError(f'{path} is not there: give a learner.pkl or the run folder that holds it')
    beside = path.with_suffix('.json')
    if not beside.is_file():
        raise FastmerError(f'{path} has no sidecar {beside.name} beside it, so what it was trained on is not known: '
                           'copy both files of the run')
    sidecar = read_json(beside)
    made = sidecar.get('versions', {}).get('fastmer', 'unknown')
    if sidecar.get('format') != FORMAT or made.split('.')[:2] != __version__.split('.')[:2]:
        raise FastmerError(f'{path} was made by fastmer {made}, and this is {__version__}: install that version, or train again')
    for name in PACKAGES:
        if name not in sidecar['versions']: continue
        try: version(name)
        except PackageNotFoundError: raise FastmerError(f'{path} needs {name} {sidecar["versions"][name]}: pip install {name}') from None
    if sha256_file(path) != sidecar['sha256']:
        raise FastmerError(f'{path} is not the file that {beside.name} describes (its SHA-256 differs): copy both files of the run again')
    return path, sidecar


def load_checked(path, device=None):
    "`(learn, sidecar)` of the learner at `path`, on the CPU or `device`, in evaluation mode"
    path, sidecar = read_sidecar(path)
    from fastai.learner import load_learner

    from . import audio, fusion, speech, targets, text  # noqa: F401 - the modules that the pickle names
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='load_learner', category=UserWarning)
            learn = load_learner(path)
    except Exception as e:
        made = ', '.join(f'{k} {v}' for k, v in sidecar['versions'].items())
        raise FastmerError(f'{path} could not be loaded ({type(e).__name__}: {str(e).splitlines()[0] if str(e) else ""}); '
                           f'it was made with {made}') from None
    learn.model.eval()
    if device is not None: learn.model.to(device)
    return learn, sidecar


def load(path, device=None):
    "A `Predictor` for the learner at `path`: a `learner.pkl` with its sidecar, or the run folder that holds both"
    from .predict import Predictor
    return Predictor(*load_checked(path, device))
