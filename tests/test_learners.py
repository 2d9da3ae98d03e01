"The three learners as fastai users meet them: blocks, splitters, showing, frozen encoders, the two-stage recipe"
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

mpl.use('Agg')
from fastai.callback.core import Callback
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.core import PILImage

from fastmer.audio import AudioModel, SumPool, audio_dls, audio_learner, find_arch
from fastmer.callbacks import KeepBest
from fastmer.errors import FastmerError
from fastmer.fusion import fusion_dls, fusion_learner
from fastmer.splits import split
from fastmer.systems import class_weights, exposure, train_audio
from fastmer.targets import SmoothCrossEntropyFlat
from fastmer.text import Tokenize, clean_text, load_encoder, text_dls, text_learner, tiny_encoder
from fastmer.training import Recipe, find_lr, metrics, set_seed, two_stage, uar


@pytest.fixture(scope='module')
def fold(demo_prepared): return split(demo_prepared.manifest, 'session', 1)


@pytest.fixture(scope='module')
def tokenizer(demo_prepared): return tiny_encoder(demo_prepared.manifest.text)[0]


@pytest.fixture(scope='module')
def dls(demo_prepared, fold, tokenizer): return fusion_dls(demo_prepared, fold, tokenizer, bs=8, seconds=3.3, crops=2)


def test_pair_batches(dls, fold, demo_prepared):
    picture, ids, label = dls.train.one_batch()
    assert picture.shape == (8, 3, 64, demo_prepared.config.frames(3.3))
    assert ids.shape[0] == 8
    assert ids.dtype == torch.int64
    assert label.shape == (8,)
    assert dls.valid.one_batch()[0].shape[:2] == (8, 2)
    assert list(dls.vocab) == demo_prepared.labels
    assert len(dls.train_ds) == len(fold.train)
    assert len(dls.valid_ds) == len(fold.valid)


def test_pairs_can_be_shown(dls, demo_prepared):
    import matplotlib.pyplot as plt
    plt.close('all')
    dls.show_batch(max_n=4)
    titles = [ax.get_title() for ax in plt.gcf().axes if ax.get_title()]
    assert len(titles) == 4
    assert all(title.split('\n')[-1] in demo_prepared.labels for title in titles)
    words = set(' '.join(demo_prepared.manifest.text).lower().replace('.', ' ').split())
    assert set(titles[0].split('\n')[0].replace('.', ' ').replace(',', ' ').split()) & words
    set_seed(0)
    audio = audio_learner(audio_dls(demo_prepared, split(demo_prepared.manifest, 'session', 1), bs=8, seconds=3.3), 'alexnet')
    _, encoder = tiny_encoder(demo_prepared.manifest.text)
    learn = fusion_learner(dls, audio.model, text_learner(dls, encoder).model, loss_func=CrossEntropyLossFlat())
    plt.close('all')
    with learn.no_bar(): learn.show_results(max_n=3)
    assert all('predicted: ' in ax.get_title() for ax in plt.gcf().axes if ax.get_title())
    plt.close('all')


def test_several_windows_are_averaged_as_probabilities():
    model = AudioModel(torch.nn.Conv2d(3, 5, 3), torch.nn.Sequential(SumPool(), torch.nn.Linear(5, 4))).eval()
    x = torch.rand(2, 3, 3, 8, 9)
    one_by_one = torch.stack([model(x[:, i]).softmax(-1) for i in range(3)]).mean(0)
    torch.testing.assert_close(model(x).softmax(-1), one_by_one)
    torch.testing.assert_close(model.features(x), torch.stack([model[0](x[:, i]).mean((2, 3)) for i in range(3)]).mean(0))


def test_splitters_cover_every_parameter_once(demo_prepared, fold, tokenizer, dls):
    audio = audio_learner(audio_dls(demo_prepared, fold, bs=8, seconds=3.3), 'resnet18')
    text = text_learner(dls, tiny_encoder(demo_prepared.manifest.text)[1])
    for learn in (audio, text, fusion_learner(dls, audio.model, text.model, loss_func=CrossEntropyLossFlat())):
        groups = learn.splitter(learn.model)
        ids = [id(p) for group in groups for p in group]
        assert len(groups) == 3
        assert len(ids) == len(set(ids))
        assert set(ids) == {id(p) for p in learn.model.parameters()}


def test_frozen_encoders_do_not_move_while_a_head_trains(dls, demo_prepared, fold):
    set_seed(0)
    audio = audio_learner(audio_dls(demo_prepared, fold, bs=8, seconds=3.3), 'resnet18')
    text = text_learner(dls, tiny_encoder(demo_prepared.manifest.text)[1])
    learn = fusion_learner(dls, audio.model, text.model, loss_func=CrossEntropyLossFlat(), metrics=metrics())
    before = {key: value.clone() for key, value in learn.model.state_dict().items()}
    two_stage(learn, Recipe(head_epochs=1, head_lr=1e-2, epochs=0), say=None)
    after = learn.model.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key for key in moved if not key.startswith('head.')} == set()
    assert {'head.2.weight', 'head.2.bias'} <= moved
    assert any('running_var' in key for key in before)


def test_padding_changes_nothing(demo_prepared):
    set_seed(0)
    _, encoder = tiny_encoder(demo_prepared.manifest.text)
    from fastmer.text import TextModel
    model = TextModel(encoder, 4).eval()
    ids = torch.tensor([[2, 9, 10, 3]])
    torch.testing.assert_close(model(torch.nn.functional.pad(ids, (0, 30))), model(ids), atol=1e-5, rtol=1e-5)
    mean = TextModel(encoder, 4, pool='mean').eval()
    torch.testing.assert_close(mean.features(torch.nn.functional.pad(ids, (0, 9))), mean.features(ids), atol=1e-5, rtol=1e-5)


def test_batches_by_length(demo_prepared, fold, tokenizer):
    dls = text_dls(demo_prepared, fold, tokenizer, bs=8)
    lengths = [int((x != tokenizer.pad_token_id).sum(1).max()) for x, _ in dls.valid]
    assert lengths == sorted(lengths, reverse=True)


def test_tokens_come_back_as_words(tokenizer):
    tokenize = Tokenize(tokenizer)
    ids = tokenize.encodes('The letter from the bank')
    assert tokenize.decodes(ids) == 'the letter from the bank'
    assert len(Tokenize(tokenizer, max_length=4).encodes('one two three four five six')) == 4


def test_the_tiny_encoder_is_the_same_each_time(demo_prepared):
    one, two = (tiny_encoder(demo_prepared.manifest.text)[0].get_vocab() for _ in range(2))
    assert one == two


def test_clean_text():
    pytest.importorskip('snowballstemmer')
    assert clean_text("I was NOT happily running, isn't it?") == 'happili run'
    assert clean_text('Die Häuser waren schön!', 'german') == 'haus schon'
    with pytest.raises(FastmerError, match='did you mean english'): clean_text('x', 'englsh')


def test_class_weights(demo_prepared, fold):
    weights = class_weights(demo_prepared.manifest, fold, demo_prepared.labels)
    assert float(weights.mean()) == pytest.approx(1)
    few = pd.DataFrame(dict(id=list('abcd'), label=['x', 'x', 'x', 'y']))
    fold4 = type('S', (), dict(train=tuple('abcd')))
    assert class_weights(few, fold4, ['x', 'y']).tolist() == pytest.approx([0.5, 1.5])


def test_uar_counts_the_classes_that_are_there():
    assert uar(np.array([0, 0, 2]), np.array([0, 0, 1])) == 0.5


def test_best_epoch_is_kept_and_patience_ends_a_stage(dls, demo_prepared, fold):
    tokenizer, encoder = tiny_encoder(demo_prepared.manifest.text)
    learn = text_learner(text_dls(demo_prepared, fold, tokenizer, bs=8), encoder, metrics=metrics(), loss_func=CrossEntropyLossFlat())
    history, _, best = two_stage(learn, Recipe(epochs=8, lr=3e-2, patience=2), say=None)
    losses = [row['valid_loss'] for row in history]
    assert best['epoch'] == 1 + int(np.argmin(losses))
    assert best['value'] == pytest.approx(min(losses))
    with learn.no_bar(), learn.no_logging(): assert learn.validate()[0] == pytest.approx(min(losses), abs=1e-5)
    assert len(history) == 8 or len(history) == best['epoch'] + 2


@pytest.mark.parametrize('schedule', ['one_cycle', 'linear'])
def test_the_first_layers_learn_slower_by_div(schedule, dls, demo_prepared, fold):
    rates = []
    class Rates(Callback):
        def after_batch(self):
            if self.training: rates.append([h['lr'] for h in self.opt.hypers])
    tokenizer, encoder = tiny_encoder(demo_prepared.manifest.text)
    learn = text_learner(text_dls(demo_prepared, fold, tokenizer, bs=8), encoder, metrics=metrics(), loss_func=CrossEntropyLossFlat())
    two_stage(learn, Recipe(epochs=1, lr=1e-3, div=9, schedule=schedule), cbs=lambda stage: [Rates()], say=None)
    first, *_, head = np.array(rates).T
    assert len(first) == len(learn.dls.train)
    assert np.allclose(head, 9*first)
    assert head.max() == pytest.approx(1e-3, rel=0.2)


def test_keep_best_of_a_score_takes_the_highest(): assert KeepBest('ua').sign == -1


def test_the_loss_that_chooses_is_of_all_utterances_and_errors_of_lr_find_move_nothing(dls, demo_prepared, fold):
    tokenizer, encoder = tiny_encoder(demo_prepared.manifest.text)
    loss = SmoothCrossEntropyFlat(weight=torch.tensor([1., 9., 1., 1.]), label_smoothing=0.1)
    learn = text_learner(text_dls(demo_prepared, fold, tokenizer, bs=3), encoder, metrics=metrics(), loss_func=loss)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        history, *_ = two_stage(learn, Recipe(epochs=1, lr=1e-3), say=None)
    with learn.no_bar(), learn.no_logging(): logits, y = learn.get_preds(act=lambda x: x)
    assert history[-1]['valid_loss'] == pytest.approx(float(loss(logits, y)), abs=1e-5)

    class Fail(Callback):
        def after_step(self):
            if self.train_iter == 5: raise RuntimeError('in the middle')
    before = {name: x.clone() for name, x in learn.model.state_dict().items()}
    with learn.added_cbs(Fail()), learn.no_bar(), learn.no_logging(): assert find_lr(learn, 1e-3, 1e-1)[0] == pytest.approx(1e-2)
    assert all(torch.equal(x, before[name]) for name, x in learn.model.state_dict().items())


@pytest.mark.parametrize('arch', ['vit_b_16', 'vit_tiny_patch16_224'])
def test_networks_of_one_size_alone_are_refused(demo_prepared, tmp_path, arch):
    if arch.endswith('_224'): pytest.importorskip('timm')
    with pytest.raises(FastmerError, match=f'{arch} .*such as resnet34'):
        train_audio(demo_prepared, tmp_path/'x', arch, protocol='session', epochs=1, lr=1e-3, say=None)


def test_exposure():
    fold = type('S', (), dict(train=('a',), valid=('b',), test=('c', 'd')))
    assert exposure(fold, dict(train_ids=['a'], valid_ids=['b'])) == []
    assert exposure(fold, dict(train_ids=['a', 'b', 'c'], valid_ids=['d'])) == ['b', 'c', 'd']


def test_find_arch():
    assert find_arch('resnet34')[0].__name__ == 'resnet34'
    assert find_arch('alexnet-report')[1] is not None
    with pytest.raises(FastmerError, match='did you mean resnet34'): find_arch('resnet_34')
    pytest.importorskip('timm')
    assert find_arch('tf_efficientnet_lite0')[0] == 'tf_efficientnet_lite0'


def test_a_hugging_face_encoder_from_a_folder(demo_prepared, tmp_path):
    tokenizer, encoder = tiny_encoder(demo_prepared.manifest.text)
    tokenizer.save_pretrained(tmp_path/'bert')
    encoder.save_pretrained(tmp_path/'bert')
    again, model = load_encoder(str(tmp_path/'bert'))
    assert again('the letter')['input_ids'] == tokenizer('the letter')['input_ids']
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), model.parameters(), strict=True))
    (tmp_path/'empty').mkdir()
    with pytest.raises(FastmerError, match='holds no encoder'): load_encoder(str(tmp_path/'empty'))
    with pytest.raises(FastmerError, match='is not there'): load_encoder(str(tmp_path/'nope'))


def test_fastai_reads_the_folder_as_it_is(demo_prepared):
    from fastai.vision.data import ImageDataLoaders
    dls = ImageDataLoaders.from_folder(demo_prepared.path/'spectrograms', valid_pct=0.2, bs=1, num_workers=0)
    assert list(dls.vocab) == demo_prepared.labels
    assert PILImage.create(demo_prepared.png(demo_prepared.manifest.iloc[0])).mode == 'RGB'
