"Every fusion over the same encoders passes the same tests: padding, absent modalities, frozen encoders, the cache, export and load"
import json
import subprocess
import sys
from itertools import product

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

mpl.use('Agg')
from click.testing import CliRunner
from fastai.losses import CrossEntropyLossFlat

import fastmer
from fastmer.calibration import fit_temperature, scale
from fastmer.cli import main
from fastmer.embeddings import FOLDER, probabilities
from fastmer.errors import FastmerError, LeakageError
from fastmer.export import export_learner, load_checked
from fastmer.fusion import embed_pairs, fit_answers, fusion_dls, fusion_learner, heard, mixed, with_audio
from fastmer.heads import FUSIONS, PresentNorm, lose, present
from fastmer.prepare import Prepared
from fastmer.runs import read_json
from fastmer.splits import split
from fastmer.systems import train_audio, train_fusion, train_text
from fastmer.training import Recipe, metrics, set_seed, two_stage

NAN = float('nan')
QUICK = dict(protocol='session', fold=1, lr=1e-3, device='cpu', say=None)
TRAINED = [name for name, (needs, _) in FUSIONS.items() if needs != 'logits']
RESIDUAL = [f'{name} residual' for name in TRAINED]
HEADS = [*FUSIONS, *RESIDUAL]
every_fusion = pytest.mark.parametrize('fusion', HEADS)
every_side = pytest.mark.parametrize('side', ['picture', 'wave'])


@pytest.fixture(scope='module')
def gapped(demo_prepared):
    "The demo's slice, in which every seventh utterance has no recording and every fifth of the others no transcript"
    df = demo_prepared.manifest.copy()
    n = np.arange(len(df))
    df.loc[n % 7 == 0, 'audio'] = ''
    df.loc[(n % 5 == 0) & (n % 7 != 0), 'text'] = ''
    out = Prepared(demo_prepared.path, demo_prepared.about)
    out.__dict__['manifest'] = df
    return out


@pytest.fixture(scope='module')
def whisper(tmp_path_factory):
    "A folder of a tiny Whisper with weights drawn at random"
    from transformers import WhisperConfig, WhisperModel
    path = tmp_path_factory.mktemp('whisper')
    torch.manual_seed(0)
    WhisperModel(WhisperConfig(vocab_size=60, d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
                               decoder_attention_heads=2, decoder_ffn_dim=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                               decoder_start_token_id=1)).save_pretrained(path)
    return path


@pytest.fixture(scope='module')
def runs(demo_prepared, whisper, tmp_path_factory):
    "Unimodal runs of session fold 1: a picture network, a speech encoder, a text encoder"
    out = tmp_path_factory.mktemp('runs')
    return dict(picture=train_audio(demo_prepared, out/'picture', 'alexnet', epochs=1, seconds=3.3, **QUICK),
                wave=train_audio(demo_prepared, out/'wave', str(whisper), head_epochs=2, epochs=0, **QUICK),
                text=train_text(demo_prepared, out/'text', 'tiny', epochs=2, **QUICK))


@pytest.fixture(scope='module')
def fold(demo_prepared): return split(demo_prepared.manifest, 'session', 1)


@pytest.fixture
def make(runs, gapped, fold):
    "A function of a fusion and the audio side that gives a learner on the gapped corpus"
    def make(fusion, side, missing=0.3, prepared=gapped):
        set_seed(0)
        audio, text = (load_checked(runs[name].path)[0] for name in (side, 'text'))
        view = dict(encoder=audio.model.encoder, trim_db=40., seconds=2.) if side == 'wave' else dict(seconds=3.3, crops=1)
        dls = fusion_dls(prepared, fold, text.dls.tls[0].tfms.fs[-1].tokenizer, bs=8, device='cpu', **view)
        name, answers = fusion.removesuffix(' residual'), dls.c*(fusion in RESIDUAL)
        learn = fusion_learner(dls, audio.model, text.model, fusion=name, missing=missing, answers=answers,
                               loss_func=CrossEntropyLossFlat(), metrics=metrics())
        if name in TRAINED:  # stand-ins that differ from 0
            with torch.no_grad():
                for p in learn.model.head.parameters(): p.add_(torch.randn_like(p)*0.05)
        return learn
    return make


def some(learn, n=8):
    "The recordings and ids of the valid part's first batch"
    return [x.as_subclass(torch.Tensor)[:n] for x in learn.dls.valid.one_batch()[:2]]


@every_side
@every_fusion
def test_padding_changes_nothing(make, fusion, side):
    learn = make(fusion, side)
    model, (audio, ids) = learn.model.eval(), some(learn)
    with torch.no_grad():
        probs = model(audio, ids).softmax(1)
        assert probs.isfinite().all()
        more = F.pad(audio, (0, 7000), value=NAN) if side == 'wave' else audio
        torch.testing.assert_close(model(more, F.pad(ids, (0, 9), value=model.text.pad_id)).softmax(1), probs, atol=1e-5, rtol=0)
        one_by_one = torch.cat([model(audio[i:i + 1], ids[i:i + 1]) for i in range(len(ids))]).softmax(1)
        torch.testing.assert_close(one_by_one, probs, atol=1e-5, rtol=0)


@every_side
@every_fusion
def test_either_modality_may_be_absent(make, fusion, side):
    learn = make(fusion, side)
    model, (audio, ids) = learn.model.eval(), some(learn)
    here, read = heard(audio), (ids != model.text.pad_id).any(1)
    assert not here.all()
    assert not read.all()
    assert (here | read).all()
    mute = torch.full_like(audio, NAN if side == 'wave' else 0.3)
    blank = torch.full_like(ids, model.text.pad_id)
    with torch.no_grad():
        assert [present(x).tolist() for x in model.embed(audio, ids)] == [here.tolist(), read.tolist()]
        alone = model(mute, ids).softmax(1), model(audio, blank).softmax(1)
        both = model(audio, ids).softmax(1)
    for probs, absent in zip(alone, (~here, ~read), strict=True):
        assert probs.isfinite().all()
        torch.testing.assert_close(probs.sum(1), torch.ones(len(probs)), atol=1e-5, rtol=0)
        torch.testing.assert_close(probs[absent], both[absent], atol=1e-5, rtol=0)  # what was not there took no part
        assert (probs - both)[here & read].abs().max() > 1e-5
    model.train()
    learn.loss_func(model(audio, ids), torch.zeros(len(ids), dtype=torch.long)).backward()
    grads = [p.grad for p in model.head.parameters() if p.grad is not None]
    assert grads
    assert all(grad.isfinite().all() for grad in grads)


@every_fusion
def test_frozen_means_frozen_with_and_without_the_cache(make, fusion, gapped, fold):
    from fastmer.embeddings import head_learner
    learn = make(fusion, 'picture')
    encoders = lambda: {k: v.clone() for k, v in learn.model.state_dict().items() if not k.startswith('head.')}
    head = lambda: torch.cat([p.detach().flatten().clone() for p in learn.model.head.parameters()])
    before, rows = encoders(), with_audio(gapped, gapped.manifest)
    embedded = embed_pairs(learn, rows, gapped, {}, cache=False)
    if fusion not in TRAINED: fit_answers(learn, embedded, rows[rows.id.isin(list(fold.valid))])
    for cached in (embedded, None):
        was = head()
        two_stage(learn, Recipe(head_epochs=1, head_lr=1e-2, epochs=0), head=head_learner(learn, cached, rows, fold, 8) if cached else None,
                  say=None)
        assert all(torch.equal(value, before[name]) for name, value in encoders().items())
        if fusion not in ('late', 'stacking'): assert not torch.equal(head(), was)
        test = rows[rows.id.isin(list(fold.test))].reset_index(drop=True)
        with learn.no_bar(), learn.no_logging(): slow, _ = learn.get_preds(dl=learn.dls.test_dl(test, bs=16))
        torch.testing.assert_close(probabilities(learn, embedded, test.id), slow, atol=1e-5, rtol=0)
        at = embedded.positions(test.id)
        torch.testing.assert_close(mixed(learn, embedded, at, at), slow, atol=1e-5, rtol=0)


@every_side
@pytest.mark.parametrize('fusion', ['concat', 'cross-attention', 'cross-attention residual'])
def test_views_are_of_recordings_alone(make, gapped, fold, fusion, side):
    from fastmer.embeddings import head_learner
    learn, rows = make(fusion, side), with_audio(gapped, gapped.manifest, side == 'wave')
    embedded, at = embed_pairs(learn, rows, gapped, {}, cache=False, views=2), list(range(len(rows)))
    audio, text = embedded[at]
    for view in embedded.views:
        changed, same = view[at]
        torch.testing.assert_close(same, text, equal_nan=True, atol=0, rtol=0)
        assert present(changed).tolist() == present(audio).tolist()  # what is not there cannot be changed
        there = [i for i in at if present(audio)[i]]
        means = [x[there].nanmean(1) if x.ndim == 3 else x[there] for x in (audio, changed)]
        assert torch.isclose(*means).all(1).float().mean() < (0.75 if side == 'wave' else 0.01)  # half of the waves are perturbed
    learn.model.missing = 0.
    two_stage(learn, Recipe(head_epochs=1, head_lr=1e-2, epochs=0), head=head_learner(learn, embedded, rows, fold, 8), say=None)
    assert all(p.isfinite().all() for p in learn.model.head.parameters())


def test_a_fusion_takes_views_where_asked_to(runs, demo_prepared, tmp_path):
    def views(side, **more):
        run = train_fusion(demo_prepared, runs[side].path, runs['text'].path, tmp_path/'x', head_epochs=1, lr=1e-3, device='cpu', say=None,
                           overwrite=True, **more)
        return run.sidecar['input']['views'], run.predictions.filter(like='p_').to_numpy()
    (three, with_views), (none, without) = views('wave', views=3), views('wave')
    assert (runs['wave'].sidecar['input']['views'], three, none) == (3, 3, 0)
    assert not np.allclose(with_views, without, atol=1e-5)
    assert views('picture', views=1)[0] == 1
    with pytest.raises(FastmerError, match='not for late'): views('wave', views=2, cache=False)


FRESH = """
import sys, torch
from fastmer.export import load_checked
for folder in sys.argv[1:]:
    model = load_checked(folder)[0].model
    for inputs, want in torch.load(folder + '/said.pt'):
        with torch.no_grad(): got = model(*inputs).softmax(1)
        assert (got - want).abs().max() < 1e-5, (folder, got, want)
    print('same')
"""


def test_a_fresh_process_gives_the_same_probabilities(make, tmp_path):
    which = [*product(HEADS, ['picture']), ('concat', 'wave'), ('cross-attention residual', 'wave')]
    for fusion, side in which:
        learn, folder = make(fusion, side), tmp_path/f'{fusion}-{side}'
        folder.mkdir()
        (audio, ids), model = some(learn, 4), learn.model.eval()
        given = (audio, ids), (audio, torch.zeros_like(ids)), (torch.full_like(audio, NAN if side == 'wave' else 0.), ids)
        with torch.no_grad(): torch.save([(inputs, model(*inputs).softmax(1)) for inputs in given], folder/'said.pt')
        export_learner(learn, folder, {})
    done = subprocess.run([sys.executable, '-c', FRESH, *map(str, tmp_path.iterdir())], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ['same']*len(which), done.stderr[-2000:]


@pytest.fixture(scope='module')
def fused(gapped, runs, tmp_path_factory):
    "Three runs on the gapped corpus, able to answer from one modality"
    out, made = tmp_path_factory.mktemp('fused'), {}
    for fusion, side, more in (('gated', 'picture', dict(head_epochs=2, lr=1e-3)), ('late', 'picture', {}),
                               ('cross-attention', 'wave', dict(head_epochs=1, epochs=1, lr=1e-3))):
        made[fusion] = train_fusion(gapped, runs[side].path, runs['text'].path, out/fusion, fusion=fusion, bs=8, device='cpu', say=None,
                                    **more)
    return made


def test_the_learner_answers_as_its_tables_say(fused, gapped):
    rows = gapped.manifest.set_index('id')
    for run in fused.values():
        learner = fastmer.load(run.path)
        for name, uses in (('', ['audio', 'text']), ('_audio', ['audio']), ('_text', ['text'])):
            for row in pd.read_csv(run.path/f'predictions{name}.csv').iloc[::4].to_dict('records'):
                item = rows.loc[row['id']]
                used = [kind for kind in uses if item[kind]]
                got = learner.predict(audio=gapped.root/item.audio if 'audio' in used else None, text=item.text if 'text' in used else None)
                assert got['modalities'] == used
                assert got['probabilities'] == pytest.approx({label: row[f'p_{label}'] for label in run.labels}, abs=1e-5)


def test_unfreezing_moves_encoders_that_lack_rows(fused, runs):
    run = fused['cross-attention']
    assert list(run.history.stage) == ['head', 'all']
    assert run.history.valid_loss.notna().all()
    if run.sidecar['best']['epoch'] == 2:
        now, was = load_checked(run.path)[0].model.audio.state_dict(), load_checked(runs['wave'].path)[0].model.state_dict()
        assert any(not torch.equal(now[name], was[name]) for name in was)
        assert all(torch.equal(now[name], was[name]) for name in was if 'embed_positions' in name)


def test_runs_tell_what_each_modality_gives(fused, gapped, fold):
    test = gapped.manifest[gapped.manifest.id.isin(list(fold.test))]
    for name, run in fused.items():
        scores = read_json(run.path/'metrics.json')['modalities']
        assert {key: s['n'] for key, s in scores.items()} == dict(
            audio=(test.audio != '').sum(), text=(test.text != '').sum(), both=((test.audio != '') & (test.text != '')).sum(),
            wrong_text=((test.audio != '') & (test.text != '')).sum())
        assert run.sidecar['missing'] == (0.3 if name in TRAINED else 0)
        df = pd.read_csv(run.path/'predictions_audio.csv')
        assert scores['audio']['wa'] == pytest.approx((df.label == df.predicted).mean())
    done = CliRunner().invoke(main, ['evaluate', str(fused['gated'].path)])
    assert done.exit_code == 0, done.output
    assert 'A+T' in done.output
    assert fused['gated'].evaluate()['modalities']


def test_late_fusion_alone_is_the_calibrated_unimodal_learner(fused, runs, gapped):
    lost = set(gapped.manifest.id[gapped.manifest.audio == ''])
    run, own = fused['late'], runs['picture']
    df, valid = pd.read_csv(run.path/'predictions_audio.csv').set_index('id'), own.valid[~own.valid.id.isin(lost)]
    want = scale(own.probs(own.predictions), fit_temperature(own.probs(valid), own.targets(valid)))
    np.testing.assert_allclose(df.filter(like='p_').to_numpy(), pd.DataFrame(want, index=own.predictions.id).loc[df.index], atol=2e-4)
    assert len(run.history) == 1


def test_the_weight_of_late_fusion_follows_the_better_learner(make, gapped):
    learn = make('late', 'picture')
    y = torch.arange(200) % 4
    torch.manual_seed(0)
    good, noise = F.one_hot(y, 4)*3. + torch.randn(200, 4), torch.randn(200, 4)*3
    learn.model.head.fit((noise, good), y)
    assert learn.model.head.weight.softmax(0)[1] > 0.8
    assert (learn.model.head((noise, good)).argmax(1) == y).float().mean() > 0.9
    assert (learn.model.head((torch.full_like(noise, NAN), good)).argmax(1) == good.argmax(1)).all()


def test_stacking_is_the_product_of_independent_witnesses(make):
    learn = make('stacking', 'picture')
    head, y = learn.model.head, torch.arange(400) % 4
    torch.manual_seed(0)
    one, two, noise = (F.one_hot(y, 4)*k + torch.randn(400, 4) for k in (2., 2., 0.))
    right = lambda *said: float((head(said).argmax(1) == y).float().mean())
    head.fit((one, two), y)
    assert head.weight.tolist() == pytest.approx([1, 1], abs=0.2)
    assert right(one, two) > max(right(one, torch.full_like(two, NAN)), right(torch.full_like(one, NAN), two)) + 0.05
    torch.testing.assert_close(head((one, torch.full_like(two, NAN))).softmax(1), (one/head.log_t[0].exp()).softmax(1))
    head.fit((3*one, noise), y)
    assert right(3*one, noise) > right(3*one, torch.full_like(noise, NAN)) - 0.02
    few = slice(0, 8)  # too few to move the powers far, or to learn how often each label is there
    head.fit((one[few], two[few]), torch.zeros(8, dtype=torch.long))
    assert ((head.weight > 0.3) & (head.weight < 2)).all()


@every_side
@pytest.mark.parametrize('fusion', RESIDUAL)
def test_a_residual_head_begins_at_the_product_of_both_answers(make, gapped, fold, fusion, side):
    from fastmer.embeddings import head_learner
    rows = with_audio(gapped, gapped.manifest, side == 'wave')
    valid = rows[rows.id.isin(list(fold.valid))].reset_index(drop=True)
    learn, stacked = make(fusion, side), make('stacking', side)
    for p in learn.model.head.head.last: torch.nn.init.zeros_(p)
    for one in (learn, stacked): fit_answers(one, embed_pairs(one, valid, gapped, {}, cache=False), valid)
    (audio, ids), own = some(learn), learn.model.head.answers
    assert not own.weight.requires_grad
    with torch.no_grad():
        for pair in ((audio, ids), (audio, torch.full_like(ids, learn.model.text.pad_id)), (torch.full_like(audio, NAN), ids)):
            if side == 'picture': pair = (pair[0].nan_to_num(0.3), pair[1])
            torch.testing.assert_close(learn.model.eval()(*pair).softmax(1), stacked.model.eval()(*pair).softmax(1), atol=1e-5, rtol=0)
    was = [p.clone() for p in own.parameters()]
    embedded = embed_pairs(learn, rows, gapped, {}, cache=False)
    two_stage(learn, Recipe(head_epochs=1, head_lr=1e-2, epochs=1, lr=1e-3), head=head_learner(learn, embedded, rows, fold, 8), say=None)
    assert all(torch.equal(p, before) for p, before in zip(own.parameters(), was, strict=True))
    assert all(p.abs().sum() > 0 for p in learn.model.head.head.last)


def test_a_fusion_is_residual_where_both_know_the_labels(fused, runs, demo_prepared, tmp_path):
    assert [run.sidecar['residual'] for run in fused.values()] == [True, False, True]
    pair = runs['picture'].path, runs['text'].path, tmp_path/'x'
    quick = dict(head_epochs=1, lr=1e-3, device='cpu', say=None, overwrite=True)
    of = lambda **more: train_fusion(demo_prepared, *pair, **quick | more).sidecar['residual']
    assert not of(residual=False)
    assert not of(recipe='report')
    assert not of(recipe='report', fusion='gated')
    assert of(cache=False)
    with pytest.raises(FastmerError, match='late fusion is that alone'): of(fusion='late', residual=True, head_epochs=None, lr=None)


def test_predict_takes_what_there_is(fused, gapped):
    row = gapped.manifest[(gapped.manifest.audio != '') & (gapped.manifest.text != '')].iloc[0]
    wav = str(gapped.root/row.audio)
    learner = fastmer.load(fused['gated'].path)
    assert learner.predict(audio=wav, text=row.text)['modalities'] == ['audio', 'text']
    assert learner.predict(audio=wav, text=' ')['modalities'] == ['audio']
    with pytest.raises(FastmerError, match='neither was given'): learner.predict()
    with pytest.raises(FastmerError, match='transcript is empty'): learner.predict(text=' ')
    done = CliRunner().invoke(main, ['predict', str(fused['late'].path), wav, '--json'])
    assert json.loads(done.stdout)['modalities'] == ['audio']
    learner.sidecar['alone'] = False
    with pytest.raises(FastmerError, match='needs audio and text, and no text was given'): learner.predict(audio=wav)


def test_what_cannot_be_done_is_said(runs, demo_prepared, gapped, tmp_path):
    pair = (runs['picture'].path, runs['text'].path, tmp_path/'x')
    with pytest.raises(FastmerError, match='did you mean gated'): train_fusion(demo_prepared, *pair, fusion='gatd', say=None)
    with pytest.raises(FastmerError, match='--missing is a probability'): train_fusion(demo_prepared, *pair, missing=1., say=None)
    with pytest.raises(FastmerError, match='nothing to train'): train_fusion(demo_prepared, *pair, fusion='late', head_epochs=3, say=None)
    bare = Prepared(gapped.path, gapped.about)
    bare.__dict__['manifest'] = gapped.manifest.assign(text='')
    with pytest.raises(FastmerError, match='neither a recording nor a transcript'): with_audio(bare, bare.manifest)
    with pytest.raises(FastmerError, match='holds no transcript'): train_fusion(bare, *pair, say=None)
    assert not (tmp_path/'x').exists()


def test_each_learner_leaves_out_what_it_cannot_read(gapped, tmp_path):
    "All three on one folder, on which some utterances have no recording, some no transcript and one neither"
    folder, said = Prepared(gapped.path, gapped.about), []
    nothing = gapped.manifest.id.iloc[-1]
    folder.__dict__['manifest'] = df = gapped.manifest.assign(**{name: gapped.manifest[name].mask(gapped.manifest.id == nothing, '')
                                                                 for name in ('audio', 'text')})
    on = dict(protocol='session', fold=1, lr=1e-3, device='cpu', say=said.append)
    audio = train_audio(folder, tmp_path/'audio', 'alexnet', epochs=1, seconds=3.3, crops=1, **on)
    text = train_text(folder, tmp_path/'text', 'tiny', epochs=1, **on)
    fused = train_fusion(folder, audio.path, text.path, tmp_path/'fusion', head_epochs=1, lr=1e-3, device='cpu', say=said.append)
    whole = split(folder.manifest, 'session', 1)
    for run, lacks in ((audio, df.audio == ''), (text, df.text == ''), (fused, df.id == nothing)):
        assert run.split['sha256'] == whole.sha256
        learned = {*run.sidecar['train_ids'], *run.valid.id, *run.predictions.id}
        assert learned == set(df.id[~lacks])
        assert f'{lacks.sum()} of {len(df)} utterances have no' in ' '.join(said)
    assert fused.sidecar['missing'] == 0.3
    assert set(fused.evaluate()['modalities']) == {'audio', 'text', 'both', 'wrong_text'}
    assert CliRunner().invoke(main, ['fusion-gain', str(fused.path)]).exit_code == 0


def test_a_joined_folder_hides_no_leak(runs, demo_prepared, tmp_path):
    "`fastmer join` gives new ids: what the encoders learned cannot be found by them"
    renamed = Prepared(demo_prepared.path, demo_prepared.about)
    renamed.__dict__['manifest'] = demo_prepared.manifest.assign(id='demo-' + demo_prepared.manifest.id)
    pair = runs['picture'].path, runs['text'].path, tmp_path/'x'
    with pytest.raises(LeakageError, match='the audio encoder was trained on .* under other ids'): train_fusion(renamed, *pair, say=None)


def test_the_cache_is_used_again_and_not_for_other_encoders(make, gapped):
    learn = make('concat', 'picture')
    rows = with_audio(gapped, gapped.manifest).head(10)
    files = lambda: set((gapped.path/FOLDER).glob('*.npz'))
    one = embed_pairs(learn, rows, gapped, dict(test=1))
    held = files()
    learn.model.embed = None  # would raise
    two = embed_pairs(learn, rows, gapped, dict(test=1))
    assert files() == held
    assert all(torch.equal(a.nan_to_num(9), b.nan_to_num(9)) for a, b in zip(one[list(range(10))], two[list(range(10))], strict=True))
    del learn.model.embed
    with torch.no_grad(): next(learn.model.text.parameters()).add_(1)
    embed_pairs(learn, rows, gapped, dict(test=1))
    assert len(files()) == len(held) + 1
    learn.model.text.head[0].p /= 2  # no tensor
    embed_pairs(learn, rows, gapped, dict(test=1))
    newest = max(files(), key=lambda path: path.stat().st_mtime)
    assert len(files()) == len(held) + 2
    newest.write_bytes(newest.read_bytes()[:1000])
    embed_pairs(learn, rows, gapped, dict(test=1))
    assert newest.stat().st_size > 1000


@every_side
def test_pairs_with_gaps_can_be_shown_and_predicted(make, gapped, side):
    import matplotlib.pyplot as plt
    learn = make('gated', side)
    plt.close('all')
    learn.dls.show_batch(max_n=4)
    with learn.no_bar(), learn.no_logging():
        learn.show_results(max_n=4)
        assert any('predicted: ' in ax.get_title() for ax in plt.gcf().axes)
        rows = with_audio(gapped, gapped.manifest, wave=side == 'wave')
        for row in (rows[rows.audio == ''].iloc[0], rows[rows.text == ''].iloc[0]):
            label, _, probs = learn.predict(row)
            assert label in gapped.labels
            assert float(probs.sum()) == pytest.approx(1, abs=1e-5)
    plt.close('all')


def test_one_modality_is_lost_never_both():
    torch.manual_seed(0)
    x = torch.randn(4000, 3), torch.randn(4000, 5, 2)
    x[0][:1000] = NAN
    a, b = (present(y) for y in lose(x, 0.4))
    assert not a[:1000].any()
    assert b[:1000].all()
    assert (a | b).all()
    assert float((~a[1000:]).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((~b[1000:]).float().mean()) == pytest.approx(0.2, abs=0.03)


def test_statistics_are_of_what_is_there():
    norm, x, here = PresentNorm(3), torch.randn(9, 3)*4 + 7, torch.arange(9) < 5
    out = norm(torch.where(here[:, None], x, 1e6), here)
    torch.testing.assert_close(out[here].mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    bn = torch.nn.BatchNorm1d(3, affine=False)
    torch.testing.assert_close(out[here], bn(x[here]))
    torch.testing.assert_close((norm.mean, norm.var), (bn.running_mean, bn.running_var))
    was = norm.mean.clone()
    assert norm(x, torch.arange(9) == 2).isfinite().all()  # one row has no deviation
    assert torch.equal(norm.mean, was)


def test_a_report_head_has_nothing_new_in_it(demo_prepared, runs, fold, make):
    learn = make('concat', 'picture', missing=0., prepared=demo_prepared)
    model = learn.model.eval()
    old = torch.nn.Sequential(torch.nn.BatchNorm1d(sum(model.widths), affine=False), torch.nn.Dropout(0.5), model.head[2]).eval()
    audio, ids = some(learn)
    with torch.no_grad():
        joined = torch.cat([model.audio.features(audio, 'mean'), model.text.features(ids)], 1)
        torch.testing.assert_close(model(audio, ids), old(joined))
