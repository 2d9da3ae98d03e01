"Work by joblib in batches, on the cores of this machine or a cluster that exists, whose workers must see the same files"
import os
from contextlib import contextmanager

from .errors import FastmerError

BATCH = 16    # files a task: enough to hide the cost of handing it over, few enough for a bar that moves
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


def in_batches(work, tasks, *args, jobs=None, cluster=None):
    "What `work(batch, *args)` gives for `tasks`, batch after batch, on `jobs` processes (all cores where `None`) or on a cluster"
    from joblib import Parallel, delayed
    batches = [tasks[i:i + BATCH] for i in range(0, len(tasks), BATCH)]
    jobs = -1 if cluster else max(1, min(jobs or os.cpu_count() or 1, len(batches)))
    with on_cluster(cluster): yield from Parallel(n_jobs=jobs, return_as='generator')(delayed(work)(batch, *args) for batch in batches)
