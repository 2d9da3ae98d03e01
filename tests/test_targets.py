"Soft labels and dimensions: targets, losses, and each system trained on them, exported, and loaded in a fresh process"
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from fastai.losses import CrossEntropyLossFlat

import fastmer
from fastmer.audio import audio_dls, audio_learner
from fastmer.cli import main
from fastmer.embeddings import embed_rows, head_learner
from fastmer.errors import FastmerError
from fastmer.export import load_checked
from fastmer.html import write_report
from fastmer.manifest import write_manifest
from fastmer.metrics import ccc
from fastmer.prepare import Prepared
from fastmer.runs import Run, read_json
from fastmer.speech import load_encoder, speech_dls, speech_learner, with_wave
from fastmer.splits import Split, split
from fastmer.systems import class_weights, train_audio, train_fusion, train_text
from fastmer.targets import SmoothCrossEntropyFlat, Target, TargetLoss, ccc_loss, find_target, soft_cross_entropy, target_of, votes_for
from fastmer.training import metrics, set_seed

LABELS = ['angry', 'happy', 'neutral', 'sad']
QUICK = dict(protocol='session', fold=1, lr=1e-3, bs=8, device='cpu', say=None)
SOFT, DIMENSIONS = dict(soft_labels=True), dict(dimensions='valence, arousal', dimension_weight=0.5)


@pytest.fixture(scope='module')
def rated(demo_prepared, tmp_path_factory):
    "The demo's slice with votes of all but every fourth utterance, now and then for what is no label, and valence of all but every fifth"
    out = Prepared(tmp_path_factory.mktemp('rated'), demo_prepared.about)
    for name in ('prepared.json', 'spectrograms'): (out.path/name).symlink_to(demo_prepared.path.resolve()/name)
    df = demo_prepared.manifest
    n = np.arange(len(df))
    second = [LABELS[(LABELS.index(label) + 1) % 4] for label in df.label]
    votes = [f'{label}=2;{other}=1' + (';bored=1' if i % 3 else '') for label, other, i in zip(df.label, second, n, strict=True)]
    valence = np.where(n % 5 == 4, np.nan, 3 + df.label.map(dict(angry=-1.5, happy=1.5, neutral=0, sad=-1)) + np.sin(n)/4)
    write_manifest(df.assign(votes=np.where(n % 4 == 3, '', votes), valence=valence, arousal=2 + np.cos(n)), out.path/'manifest.csv')
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
def runs(rated, whisper, tmp_path_factory): return train_all(rated, whisper, tmp_path_factory.mktemp('runs'), **SOFT, **DIMENSIONS)


def test_shares_of_votes():
    assert votes_for('angry=3;happy=1;bored=9;sad=0', LABELS) == dict(angry=0.75, happy=0.25)
    assert votes_for('', LABELS) == votes_for('bored=2', LABELS) == votes_for('angry=0', LABELS) == {}


def test_a_row_becomes_a_distribution_and_is_shown_by_its_label():
    target = Target(LABELS, soft=dict(voted=1, n=1))
    row = pd.Series(dict(label='happy', votes='angry=3;happy=1;bored=9'))
    assert target(row).tolist() == [1, 0.75, 0.25, 0, 0]
    assert target.decode(target(row)) == 'happy (angry 0.75, happy 0.25)'
    assert target(pd.Series(dict(label='sad', votes='bored=1'))).tolist() == [3, 0, 0, 0, 1]


def test_a_row_with_dimensions():
    target = Target(LABELS, dimensions=dict(valence=dict(mean=3., std=1., n=2), arousal=dict(mean=3., std=1., n=2)))
    row = pd.Series(dict(label='happy', votes='angry=3', valence=4.25, arousal=float('nan')))
    np.testing.assert_equal(target(row).tolist(), [1, 0, 1, 0, 0, 4.25, float('nan')])  # without --soft-labels votes count nothing
    assert target.decode(target(row)) == 'happy, valence 4.25'
    assert target.c == 6


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('smoothing', [0., 0.1])
def test_one_hot_distributions_give_the_loss_of_labels(weighted, smoothing):
    torch.manual_seed(0)
    logits, y = torch.randn(9, 4), torch.randint(4, (9,))
    weight = torch.rand(4) if weighted else None
    ours = SmoothCrossEntropyFlat(weight=weight, label_smoothing=smoothing)
    torch.testing.assert_close(soft_cross_entropy(logits, torch.eye(4)[y], weight, smoothing), ours(logits, y))
    if not (weighted and smoothing):  # there PyTorch's is another: below
        torch.testing.assert_close(ours(logits, y), CrossEntropyLossFlat(weight=weight, label_smoothing=smoothing)(logits, y))
    ours.reduction = 'none'
    each, of = ours(logits, y), torch.ones(9) if weight is None else weight[y]
    torch.testing.assert_close(each.sum()/of.sum(), soft_cross_entropy(logits, torch.eye(4)[y], weight, smoothing))


@pytest.mark.parametrize('target', [None, Target('abcd')])
def test_smoothing_never_makes_a_rare_label_the_best_answer(target):
    "Weights of an absent and of a rare label: with PyTorch's smoothing the least loss for a common one is at the rarest"
    rows = pd.DataFrame(dict(id=[str(i) for i in range(2001)], label=['a']*1000 + ['b']*1000 + ['c']))
    weight = class_weights(rows, Split('random', 1, 1, 0, tuple(rows.id), (), ()), 'abcd')
    assert weight.argmax() == 2
    loss = TargetLoss(target, weight, 0.1) if target else SmoothCrossEntropyFlat(weight=weight, label_smoothing=0.1)
    for y in range(3):
        logits = torch.zeros(1, 4, requires_grad=True)
        optimiser = torch.optim.LBFGS([logits], max_iter=100)
        truth = torch.tensor([[float(y), *torch.eye(4)[y]]]) if target else torch.tensor([y])

        def closure(logits=logits, optimiser=optimiser, truth=truth):
            optimiser.zero_grad()
            value = loss(logits, truth)
            value.backward()
            return value
        optimiser.step(closure)
        torch.testing.assert_close(logits.detach().softmax(-1)[0], torch.eye(4)[y]*0.9 + 0.025, atol=1e-3, rtol=0)


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


def hand_ccc(x, y):
    x, y = np.asarray(x), np.asarray(y)
    return 2*np.mean((x - x.mean())*(y - y.mean()))/(x.var() + y.var() + (x.mean() - y.mean())**2)


def test_the_loss_of_dimensions():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
    y[:4, 0], y[1:, 2] = np.nan, np.nan  # the last is known once only, and counts nothing
    want = 1 - (hand_ccc(x[4:, 0], y[4:, 0]) + hand_ccc(x[:, 1], y[:, 1]))/2
    assert float(ccc_loss(torch.tensor(x), torch.tensor(y))) == pytest.approx(want, abs=1e-6)
    assert want == pytest.approx(1 - (ccc(y[:, 0], x[:, 0]) + ccc(y[:, 1], x[:, 1]))/2)
    nothing = torch.zeros(3, 2, requires_grad=True)
    loss = ccc_loss(nothing, torch.full((3, 2), float('nan')))
    loss.backward()
    assert (float(loss.detach()), nothing.grad.abs().sum()) == (0, 0)


def test_the_loss_of_both_and_what_it_says():
    torch.manual_seed(0)
    target = Target('ab', dimensions=dict(valence=dict(mean=3., std=2., n=9)), weight=0.5)
    loss, out = TargetLoss(target), torch.randn(6, 3)
    values = torch.randn(6)
    y = torch.cat([torch.zeros(6, 1), torch.eye(2)[[0]*6], values[:, None]], 1)
    said = loss.activation(out)
    torch.testing.assert_close(said[:, 2], out[:, 2]*2 + 3)
    want = float(torch.nn.functional.cross_entropy(out[:, :2], torch.zeros(6, dtype=int))) + 0.5*(1 - ccc(values, said[:, 2]))
    assert float(loss(out, y)) == pytest.approx(want, abs=1e-6)
    assert loss.decodes(said)[:, 0].tolist() == said[:, :2].argmax(1).tolist()
    valid = metrics(target)[-1]
    assert (valid.name, valid(out, y)) == ('ccc_valence', pytest.approx(ccc(values, said[:, 2])))


def test_windows_of_a_picture_are_averaged(rated):
    fold = split(rated.manifest, 'session', 1)
    learn = audio_learner(audio_dls(rated, fold, bs=8, seconds=3.3, target=find_target(rated, fold, **DIMENSIONS)), 'alexnet')
    model, x = learn.model.eval(), torch.rand(2, 3, 3, 64, 66)
    with torch.no_grad(): out, one_by_one = model(x), torch.stack([model(x[:, i]) for i in range(3)])
    torch.testing.assert_close(out[:, 4:], one_by_one[..., 4:].mean(0))
    torch.testing.assert_close(out[:, :4].exp(), one_by_one[..., :4].softmax(-1).mean(0))


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


def test_a_fresh_process_says_the_same(runs, rated, says_the_same):
    says_the_same(rated, [run.path for run in runs.values()], dimensions=['valence', 'arousal'])


def test_what_a_run_says_of_its_votes(runs, rated):
    for name, run in runs.items():
        train = rated.manifest[rated.manifest.id.isin(run.sidecar['train_ids'])]
        known = dict(voted=int((train.votes != '').sum()), n=len(train))
        assert 0 < known['voted'] < known['n']
        assert run.sidecar['soft_labels'] == known, name
        assert target_of(load_checked(run.path)[0].dls).soft == known
        assert {'accuracy', 'ua'} <= set(run.history)
        p = run.probs(run.predictions)
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)


def test_what_a_run_says_of_its_dimensions(runs, rated):
    df = rated.manifest.set_index('id')
    for name, run in runs.items():
        p, scores = run.predictions, read_json(run.path/'metrics.json')
        train = df.valence[run.sidecar['train_ids']].dropna()
        known = p.valence.notna()
        assert run.sidecar['dimensions']['valence'] == pytest.approx(dict(mean=train.mean(), std=train.std(ddof=0), n=len(train))), name
        np.testing.assert_allclose(p.valence, df.valence[p.id], atol=1e-6)
        assert 0 < known.sum() < len(p)
        of = scores['dimensions']['valence']
        assert of['n'] == known.sum()
        assert of['ccc'] == pytest.approx(hand_ccc(p.valence[known], p.predicted_valence[known]))
        assert of['rmse'] == pytest.approx(np.sqrt(np.mean((p.valence - p.predicted_valence)[known]**2)))
        assert of['interval'][0] < of['ccc'] < of['interval'][1]
        assert {'ccc_valence', 'ccc_arousal'} <= set(run.history)
        best = run.history.set_index('epoch').loc[run.sidecar['best']['epoch']]
        v = run.valid
        assert best.ccc_arousal == pytest.approx(hand_ccc(v.arousal, v.predicted_arousal), abs=1e-4), name
        assert (run.path/'plots/dimensions.png').is_file()
    done = CliRunner().invoke(main, ['evaluate', *(str(run.path) for run in runs.values())])
    assert done.exit_code == 0, done.output
    soft = run.sidecar['soft_labels']
    for says in (f'soft labels: votes known of {soft["voted"]} of {soft["n"]} training utterances',
                 'dimensions valence, arousal: valid_loss adds 0.5 x (1 - CCC)'): assert says in ' '.join(done.output.split())
    assert f'{of["ccc"]:.3f} [{of["interval"][0]:.3f}' in done.output


def test_the_loss_of_valid_is_that_of_all_of_it(runs, rated):
    "Not the mean over its batches, whose size differs from stage to stage"
    run = runs['frozen']
    weight = class_weights(rated.manifest, split(rated.manifest, 'session', 1), LABELS)
    loss = TargetLoss(find_target(rated, split(rated.manifest, 'session', 1), **SOFT, **DIMENSIONS), weight, 0.1)
    v, of = run.valid, run.sidecar['dimensions']
    z = [(v[f'predicted_{name}'] - of[name]['mean'])/of[name]['std'] for name in of]
    out = torch.tensor(np.column_stack([np.log(run.probs(v)), *z]))
    rows = rated.manifest.set_index('id', drop=False).loc[v.id]
    y = torch.stack([target_of(load_checked(run.path)[0].dls)(row) for _, row in rows.iterrows()])
    assert run.sidecar['best']['value'] == pytest.approx(float(loss(out, y)), abs=1e-4)


def test_predict_gives_dimensions(runs, rated):
    row = rated.manifest.iloc[0]
    answer = [str(runs['text'].path), '--text', row.text]
    shown = CliRunner().invoke(main, ['predict', *answer], env=dict(COLUMNS='200')).output
    said = json.loads(CliRunner().invoke(main, ['predict', *answer, '--json']).output)
    assert {'valence', 'arousal'} <= set(shown.split())
    assert list(said['dimensions']) == ['valence', 'arousal']
    assert f'{said["dimensions"]["arousal"]:.3f}' in shown


def test_a_report_shows_dimensions(runs, tmp_path):
    page = write_report([runs['text'].path], tmp_path/'x.html', audio=False).read_text()
    of = read_json(runs['text'].path/'metrics.json')['dimensions']['valence']
    assert f'{of["ccc"]:.3f} [{of["interval"][0]:.3f}' in page
    assert 'valence, true' in page


def test_a_test_part_that_knows_no_value(runs, tmp_path):
    run = Run(shutil.copytree(runs['text'].path, tmp_path/'run'))
    run.write_predictions(run.predictions.assign(valence=np.nan))
    done = CliRunner().invoke(main, ['evaluate', str(run.path)])
    assert done.exit_code == 0, done.output
    assert 'not known' in done.output
    assert read_json(run.path/'metrics.json')['dimensions']['valence'] == dict(ccc=None, rmse=None, n=0, interval=None)
    assert 'not known' in write_report([run.path], tmp_path/'x.html', audio=False).read_text()


def test_any_fusion_of_encoders_that_give_dimensions(runs, rated, tmp_path):
    encoders, how = [runs[name].path for name in ('frozen', 'text')], dict(head_epochs=1, lr=1e-3, say=None)
    late = train_fusion(rated, runs['picture'].path, encoders[1], tmp_path/'late', fusion='late', say=None)
    assert 'predicted_valence' not in late.predictions
    np.testing.assert_allclose(late.probs(late.predictions).sum(axis=1), 1, atol=1e-5)
    alone = train_fusion(rated, *encoders, tmp_path/'alone', fusion='gated', missing=0.3, dimensions=['valence'], bs=8, **how)
    assert 'predicted_valence' in pd.read_csv(alone.path/'predictions_audio.csv')


ALONE = dict(dimensions='valence', classes=False)


@pytest.fixture(scope='module')
def alone(rated, runs, whisper, tmp_path_factory):
    "Runs of dimensions alone: a picture network, a text encoder, a fusion of encoders with and without labels"
    out, how = tmp_path_factory.mktemp('alone'), QUICK | ALONE
    made = dict(picture=train_audio(rated, out/'picture', 'alexnet', epochs=1, seconds=3.3, crops=2, cutmix=1., **how),
                text=train_text(rated, out/'text', 'tiny', epochs=1, **how))
    return made | dict(fusion=train_fusion(rated, runs['frozen'].path, made['text'].path, out/'fusion', head_epochs=1, missing=0.2, **how))


def test_dimensions_alone(alone, rated, tmp_path):
    for name, run in alone.items():
        p, scores = run.predictions, read_json(run.path/'metrics.json')
        assert list(p) == ['id', 'label', 'valence', 'predicted_valence'], name
        known = p.valence.notna()
        assert scores['dimensions']['valence']['ccc'] == pytest.approx(hand_ccc(p.valence[known], p.predicted_valence[known]))
        assert not {'ua', 'wa', 'confusion', 'calibration', 'classes', 'modalities'} & set(scores)
        assert not {'accuracy', 'ua'} & set(run.history)
        learner, row = fastmer.load(run.path), rated.manifest.set_index('id').loc[p.id[0]]
        said = learner.predict(audio=rated.root/row.audio, text=row.text)
        assert said == dict(modalities=list(learner.needs), dimensions=dict(valence=pytest.approx(p.predicted_valence[0], abs=1e-4)))
    shown = CliRunner().invoke(main, ['evaluate', *(str(run.path) for run in alone.values())])
    assert shown.exit_code == 0, shown.output
    assert 'no labels' in ' '.join(shown.output.split())
    assert 'UA (' not in shown.output
    page = write_report([run.path for run in alone.values()], tmp_path/'x.html').read_text()
    assert 'in their place' in page
    assert 'Worst errors' not in page
    said = CliRunner().invoke(main, ['predict', str(alone['text'].path), '--text', 'ja'])
    assert 'emotion' not in said.output
    assert 'valence' in said.output


def test_the_loss_of_dimensions_alone():
    target = Target((), dimensions=dict(valence=dict(mean=3., std=2., n=9)), weight=5.)
    out, values = torch.randn(6, 1), torch.randn(6)
    loss = TargetLoss(target)(out, torch.stack([torch.zeros(6), values], 1))
    assert float(loss) == pytest.approx(1 - ccc(values, out[:, 0]*2 + 3), abs=1e-6)
    assert target.decode(target(pd.Series(dict(label='sad', valence=1.)))) == 'valence 1.00'
    assert TargetLoss(target).decodes(torch.ones(2, 1)).tolist() == [[0, 1], [0, 1]]


def test_what_is_about_labels_refuses_dimensions_alone(alone, runs, rated, tmp_path):
    one, picture, other = str(alone['text'].path), str(alone['picture'].path), str(runs['text'].path)
    out = ['--out', str(tmp_path/'x')]
    for words, says in ((['compare', one, other], 'gives dimensions alone'),
                        (['fusion-gain', str(alone['fusion'].path)], 'gives dimensions alone'),
                        (['predict', one, '--text', 'ja', '--abstain-below', '0.5'], 'leave out --abstain-below'),
                        (['ladder', str(rated.path), *out, '--system', 'text', '--arch', 'tiny', '--no-classes'], 'leave out --no-classes'),
                        (['tune', str(rated.path), *out, '--system', 'text', '--arch', 'tiny', '--no-classes'], 'leave out --no-classes'),
                        (['train-text', str(rated.path), *out, '--arch', 'tiny', '--no-classes'], 'such as --dimensions valence,arousal'),
                        (['train-text', str(rated.path), *out, '--arch', 'tiny', '--no-classes', '--dimensions', 'x', '--soft-labels'],
                         'leave out --soft-labels'),
                        (['train-fusion', str(rated.path), *out, '--audio', picture, '--text', other, '--fusion', 'late'],
                         'the audio learner knows no labels')):
        done = CliRunner().invoke(main, words)
        assert (done.exit_code, says in ' '.join(done.output.split())) == (1, True), (words, done.output)


def test_folds_of_dimensions_alone_are_pooled(rated, tmp_path):
    how = ['--system', 'text', '--protocol', 'session', '--only', '1', '--arch', 'tiny', '--epochs', '1', '--dimensions', 'valence',
           '--no-classes']
    done = CliRunner().invoke(main, ['cross-validate', str(rated.path), '--out', str(tmp_path/'cv'), *how], env=dict(COLUMNS='200'))
    assert done.exit_code == 0, done.output
    assert 'pooled CCC valence' in ' '.join(done.output.split())
    shown = CliRunner().invoke(main, ['evaluate', str(tmp_path/'cv/text')])
    assert shown.exit_code == 0, shown.output


def test_folds_are_pooled(rated, tmp_path):
    how = ['--system', 'text', '--protocol', 'session', '--only', '1', '--only', '2', '--arch', 'tiny', '--epochs', '1', '--soft-labels',
           '--dimensions', 'valence']
    done = CliRunner().invoke(main, ['cross-validate', str(rated.path), '--out', str(tmp_path/'cv'), *how], env=dict(COLUMNS='200'))
    assert done.exit_code == 0, done.output
    pool, *folds = (Run.open(tmp_path/'cv/text'/name) for name in ('', 'seed0-fold1', 'seed0-fold2'))
    known = [fold.sidecar['soft_labels'] for fold in folds]
    assert pool.sidecar['soft_labels'] == {name: sum(of[name] for of in known) for name in ('voted', 'n')}
    p, of = pool.predictions, read_json(pool.path/'metrics.json')['dimensions']['valence']
    assert of['n'] == p.valence.notna().sum() == sum(fold.predictions.valence.notna().sum() for fold in folds)
    assert of['ccc'] == pytest.approx(hand_ccc(p.valence[p.valence.notna()], p.predicted_valence[p.valence.notna()]))
    assert 'pooled CCC valence' in ' '.join(done.output.split())
    assert 'votes known of' in ' '.join(done.output.split())


@pytest.mark.parametrize(('how', 'says'), [
    (dict(dimensions='valense'), "no dimension 'valense' (did you mean valence?)"),
    (dict(dimensions='dominance'), 'no two values of dominance'),
    (dict(dimensions='valence', bs=3), 'give --bs 16, or 4 at the least'),
    (dict(dimensions='valence', dimension_weight=0), 'above 0'),
    (dict(dimensions='valence', recipe='report', arch='alexnet-report', bs=None), 'one of 1 cannot tell')])
def test_dimensions_that_cannot_be_learned(rated, tmp_path, how, says):
    with pytest.raises(FastmerError) as e: train_audio(rated, tmp_path/'x', **QUICK | dict(arch='alexnet') | how)
    assert says in str(e.value)
    assert not (tmp_path/'x').exists()


def test_soft_labels_without_votes(demo_prepared, runs, tmp_path):
    for train, more in ((train_audio, dict(arch='alexnet')), (train_text, dict(arch='tiny'))):
        with pytest.raises(FastmerError, match='no training utterance of .* has votes for its labels'):
            train(demo_prepared, tmp_path/'x', **QUICK, **SOFT, **more)
    encoders = [runs[name].path for name in ('frozen', 'text')]
    with pytest.raises(FastmerError, match='late fusion is fitted to the labels of valid'):
        train_fusion(demo_prepared, *encoders, tmp_path/'x', fusion='late', soft_labels=True, say=None)
    with pytest.raises(FastmerError, match='stacking fusion is fitted to the labels of valid'):
        train_fusion(demo_prepared, *encoders, tmp_path/'x', fusion='stacking', dimensions='duration', say=None)
    assert not (tmp_path/'x').exists()
