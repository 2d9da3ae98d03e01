"Work on a cluster that exists, through joblib's backends: its workers must see the same files under the same paths"
from contextlib import contextmanager

from .errors import FastmerError

TIMEOUT = 20  # seconds to wait for a scheduler


@contextmanager
def on_cluster(address=None):
    "Within it, joblib hands its work to the cluster at `address` (`dask://host:port`); without one, to processes of this machine"
    if not address:
        yield
        return
    kind, _, where = str(address).partition('://')
    if kind != 'dask' or not where: raise FastmerError(f'{address!r} is no cluster that fastmer knows: give one as dask://host:port')
    try:
        from distributed import Client
    except ImportError: raise FastmerError('--cluster needs Dask: pip install "fastmer[dask]", here and on the cluster') from None
    from joblib import parallel_config
    try: client = Client(f'tcp://{where}', timeout=TIMEOUT)
    except (OSError, ValueError) as e:
        why = ' '.join(str(e).split())[:120]
        raise FastmerError(f'there is no Dask scheduler at {where} ({why}): start one with dask scheduler') from None
    with client:
        if not client.scheduler_info()['workers']:
            raise FastmerError(f'the Dask cluster at {where} has no workers: start some with dask worker {where}')
        with parallel_config('dask'): yield
