"A cluster draws the bytes that one process draws; one that is not there is said"
import pytest

from fastmer import cluster
from fastmer.errors import FastmerError
from fastmer.prepare import prepare_corpus


@pytest.fixture(scope='module')
def dask():
    "The address of a local cluster of two worker processes"
    distributed = pytest.importorskip('distributed')
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local:
        yield local.scheduler_address.replace('tcp://', 'dask://')


def drawn(prepared): return {path.relative_to(prepared.path): path.read_bytes() for path in prepared.path.rglob('*.png')}


def test_two_workers_draw_what_one_process_draws(dask, corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alone = prepare_corpus('table', corpus/'utterances.csv', tmp_path/'alone', jobs=1)
    there = prepare_corpus('table', corpus/'utterances.csv', 'there', cluster=dask)
    assert drawn(there) == drawn(alone)
    assert there.manifest.equals(alone.manifest)
    assert len(drawn(alone)) == 32


def test_emodb_on_two_workers(dask, data_dir, tmp_path):
    alone = prepare_corpus('emodb', data_dir/'emodb', tmp_path/'alone', jobs=1)
    there = prepare_corpus('emodb', data_dir/'emodb', tmp_path/'there', cluster=dask)
    assert drawn(there) == drawn(alone)
    assert len(drawn(alone)) == 339


@pytest.mark.parametrize(('address', 'says'), [('slurm://x:1', 'no cluster that fastmer knows'), ('dask://', 'give one as dask://host:port'),
                                               ('dask://127.0.0.1:1', 'no Dask scheduler at 127.0.0.1:1')])
def test_a_cluster_that_is_not_there(corpus, tmp_path, monkeypatch, address, says):
    pytest.importorskip('distributed')
    monkeypatch.setattr(cluster, 'TIMEOUT', 1)
    with pytest.raises(FastmerError, match=says): prepare_corpus('table', corpus/'utterances.csv', tmp_path/'x', cluster=address)
