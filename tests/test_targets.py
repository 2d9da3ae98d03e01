"Soft labels: targets, losses, and each system trained on them, exported, and loaded in a fresh process"
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from fastai.losses import CrossEntropyLossFlat

from fastmer.audio import audio_dls, audio_learner
from fastmer.cli import main
from fastmer.embeddings import embed_rows, head_learner
from fastmer.errors import FastmerError
from fastmer.export import load_checked
from fastmer.manifest import write_manifest
from fastmer.prepare import Prepared
from fastmer.runs import Run
from fastmer.speech import load_encoder, speech_dls, speech_learner, with_wave
from fastmer.splits import split
from fastmer.systems import train_audio, train_fusion, train_text
from fastmer.targets import Target, TargetLoss, find_target, soft_cross_entropy, target_of, votes_for
from fastmer.training import metrics, set_seed

LABELS = ['angry', 'happy', 'neutral', 'sad']
QUICK = dict(protocol='session', fold=1, lr=1e-3, bs=8, device='cpu', say=None)
SOFT = dict(soft_labels=True)


@pytest.fixture(scope='module')
def rated(demo_prepared, tmp_path_factory):
    "The demo's slice with votes of all but every fourth utterance, now and then for what is no label"
    out = Prepared(tmp_path_factory.mktemp('rated'), demo_prepared.about)
    for name in ('prepared.json', 'spectrograms'): (out.path/name).symlink_to(demo_prepared.path.resolve()/name)
    df = demo_prepared.manifest
    n = np.arange(len(df))
    second = [LABELS[(LABELS.index(label) + 1) % 4] for label in df.label]
    votes = [f'{label}=2;{other}=1' + (';bored=1' if i % 3 else '') for label, other, i in zip(df.label, second, n, strict=True)]
    write_manifest(df.assign(votes=np.where(n % 4 == 3, '', votes)), out.path/'manifest.csv')
    return out


@pytest.fixture(scope='module')
def whisper(tmp_path_factory):
    from transformers import WhisperConfig, WhisperModel
    path = tmp_path_factory.mktemp('whisper')
    set_seed(0)
    WhisperModel(WhisperConfig(vocab_size=60, d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
                               decoder_attention_heads=2, decoder_ffn_dim=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                               decoder_start_token_id=1)).save_pretrained(path)
    return str(path)


def train_all(rated, whisper, out, **how):
    "A run of each system: a picture network, a speech encoder frozen and fine-tuned, a text encoder, and a fusion on their embeddings"
    how = QUICK | how
    runs = dict(picture=train_audio(rated, out/'picture', 'alexnet', epochs=1, seconds=3.3, crops=2, mixup=0.4, **how),
                frozen=train_audio(rated, out/'frozen', whisper, head_epochs=2, epochs=0, **how),
                tuned=train_audio(rated, out/'tuned', whisper, head_epochs=1, epochs=1, **how),
                text=train_text(rated, out/'text', 'tiny', epochs=1, **how))
    return runs | dict(fusion=train_fusion(rated, runs['frozen'].path, runs['text'].path, out/'fusion', head_epochs=2, **how))


@pytest.fixture(scope='module')
def soft_runs(rated, whisper, tmp_path_factory): return train_all(rated, whisper, tmp_path_factory.mktemp('soft'), **SOFT)


def test_shares_of_votes():
    assert votes_for('angry=3;happy=1;bored=9;sad=0', LABELS) == dict(angry=0.75, happy=0.25)
    assert votes_for('', LABELS) == votes_for('bored=2', LABELS) == votes_for('angry=0', LABELS) == {}


def test_a_row_becomes_a_distribution_and_is_shown_by_its_label():
    target = Target(LABELS)
    row = pd.Series(dict(label='happy', votes='angry=3;happy=1;bored=9'))
    assert target(row).tolist() == [1, 0.75, 0.25, 0, 0]
    assert target.decode(target(row)) == 'happy (angry 0.75, happy 0.25)'
    assert target(pd.Series(dict(label='sad', votes='bored=1'))).tolist() == [3, 0, 0, 0, 1]


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('smoothing', [0., 0.1])
def test_one_hot_distributions_give_the_loss_of_labels(weighted, smoothing):
    torch.manual_seed(0)
    logits, y = torch.randn(9, 4), torch.randint(4, (9,))
    weight = torch.rand(4) if weighted else None
    want = CrossEntropyLossFlat(weight=weight, label_smoothing=smoothing)(logits, y)
    torch.testing.assert_close(soft_cross_entropy(logits, torch.eye(4)[y], weight, smoothing), want)


def test_the_loss_of_a_distribution():
    "Half the weight on each of two labels: -(ln 0.5 + ln 0.25)/2"
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    assert float(soft_cross_entropy(logits, torch.tensor([[0.5, 0.5, 0.]]))) == pytest.approx(1.0397208)
    y = torch.tensor([[2., 0.5, 0.5, 0.]])
    assert float(TargetLoss(Target('abc'))(logits, y)) == pytest.approx(1.0397208)
    torch.testing.assert_close(TargetLoss(Target('abc')).activation(logits), logits.exp())


def test_the_loss_is_least_at_the_distribution():
    shares = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    logits = shares.log().requires_grad_()
    soft_cross_entropy(logits, shares).backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(shares), atol=1e-6, rtol=0)


def test_pictures_with_their_votes(rated):
    fold = split(rated.manifest, 'session', 1)
    dls = audio_dls(rated, fold, bs=8, seconds=3.3, target=find_target(rated, fold, **SOFT))
    assert list(dls.vocab) == LABELS
    assert dls.c == 4
    learn = audio_learner(dls, 'alexnet')
    assert isinstance(learn.loss_func, TargetLoss)
    rows = rated.manifest.set_index('id').loc[list(fold.valid)]
    ys = torch.cat([y for _, y in dls.valid]).as_subclass(torch.Tensor)
    assert sorted(map(tuple, ys.tolist())) == sorted(tuple(target_of(dls)(row).tolist()) for _, row in rows.iterrows())
    dls.valid.show_batch(max_n=2)
    assert learn.predict(rated.manifest.assign(png='').iloc[0].replace('', str(rated.png(rated.manifest.iloc[0]))))[0].split()[0] in LABELS


def test_scores_of_a_training_are_those_against_the_label(rated):
    said = torch.randn(20, 4)
    y = torch.cat([torch.randint(4, (20, 1)), torch.rand(20, 4)], 1)
    found = {metric.name: float(metric(said, y)) for metric in metrics(Target(LABELS))}
    right = said.argmax(1) == y[:, 0]
    assert found == pytest.approx(dict(accuracy=float(right.float().mean()),
                                       ua=np.mean([float(right[y[:, 0] == at].float().mean()) for at in y[:, 0].unique()])))


def test_a_cached_head_learns_the_votes(rated, whisper):
    fold = split(rated.manifest, 'session', 1)
    encoder, rows = load_encoder(whisper), with_wave(rated, rated.manifest)
    dls = speech_dls(rated, fold, encoder, bs=8, target=find_target(rated, fold, **SOFT))
    learn = speech_learner(dls, encoder)
    head = head_learner(learn, embed_rows(learn, rows, learn.model.encoder, rated, {}, cache=False), rows, fold, 8)
    ys = torch.cat([y for *_, y in head.dls.valid])
    want = torch.stack([target_of(dls)(rows.set_index('id', drop=False).loc[name]) for name in fold.valid])
    torch.testing.assert_close(ys, want.as_subclass(torch.Tensor))


FRESH = """
import sys, fastmer
import pandas as pd
manifest, root, *runs = sys.argv[1:]
rows = pd.read_csv(manifest, dtype=str, keep_default_na=False).set_index('id')
for run in runs:
    learner = fastmer.load(run)
    for row in pd.read_csv(run + '/predictions.csv').head(6).itertuples():
        item = rows.loc[row.id]
        got = learner.predict(audio=f'{root}/{item.audio}', text=item.text)
        assert got['label'] == row.predicted
        for label, p in got['probabilities'].items():
            assert abs(p - getattr(row, f'p_{label}')) < 1e-5, (run, row.id, label, p, getattr(row, f'p_{label}'))
    print('same')
"""


def same_in_a_fresh_process(runs, prepared):
    args = [sys.executable, '-c', FRESH, prepared.path/'manifest.csv', prepared.root, *(str(run.path) for run in runs.values())]
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.stdout.split() == ['same']*len(runs), done.stderr[-2000:]


def test_a_fresh_process_gives_the_same_probabilities(soft_runs, rated): same_in_a_fresh_process(soft_runs, rated)


def test_what_a_run_says_of_its_votes(soft_runs, rated):
    for name, run in soft_runs.items():
        train = rated.manifest[rated.manifest.id.isin(run.sidecar['train_ids'])]
        known = dict(voted=int((train.votes != '').sum()), n=len(train))
        assert 0 < known['voted'] < known['n']
        assert run.sidecar['soft_labels'] == known, name
        assert target_of(load_checked(run.path)[0].dls).soft == known
        assert {'accuracy', 'ua'} <= set(run.history)
        p = run.probs(run.predictions)
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
        done = CliRunner().invoke(main, ['evaluate', str(run.path)])
        assert f'soft labels: votes known of {known["voted"]} of {known["n"]} training utterances' in ' '.join(done.output.split())


def test_soft_labels_by_command_and_over_folds(rated, tmp_path):
    how = ['--system', 'text', '--protocol', 'session', '--only', '1', '--only', '2', '--arch', 'tiny', '--epochs', '1', '--soft-labels']
    said = CliRunner().invoke(main, ['cross-validate', str(rated.path), '--out', str(tmp_path/'cv'), *how])
    assert said.exit_code == 0, said.output
    assert 'soft labels: votes known of' in ' '.join(said.output.split())
    pool, *folds = (Run.open(tmp_path/'cv/text'/name).sidecar['soft_labels'] for name in ('', 'seed0-fold1', 'seed0-fold2'))
    assert pool == {name: sum(fold[name] for fold in folds) for name in ('voted', 'n')}


def test_soft_labels_without_votes(demo_prepared, soft_runs, tmp_path):
    for train, more in ((train_audio, dict(arch='alexnet')), (train_text, dict(arch='tiny'))):
        with pytest.raises(FastmerError, match='no training utterance of .* has votes for its labels'):
            train(demo_prepared, tmp_path/'x', **QUICK, **SOFT, **more)
    encoders = [soft_runs[name].path for name in ('frozen', 'text')]
    with pytest.raises(FastmerError, match='late fusion is fitted to the labels of valid'):
        train_fusion(demo_prepared, *encoders, tmp_path/'x', fusion='late', soft_labels=True, say=None)
    assert not (tmp_path/'x').exists()
