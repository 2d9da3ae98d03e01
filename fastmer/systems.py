"A prepared folder and settings in, a run folder out: `train_audio`, `train_text` and `train_fusion`"
import shutil
import time
from dataclasses import asdict, replace
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from fastai.callback.mixup import MixUp

from .adapters import add_lora
from .audio import SpectrogramBlock, arch_stats, audio_dls, audio_learner, find_arch, fit_bs, normaliser_of, with_png, with_speaker
from .audit import audit_split, context_leaks
from .augment import CutMixTime
from .embeddings import by_speaker, embed_rows, head_learner, probabilities
from .errors import FastmerError, LeakageError, did_you_mean
from .export import export_learner, load_checked, read_sidecar
from .fusion import by_modality, embed_pairs, fit_answers, fusion_dls, fusion_learner, with_audio
from .heads import find_fusion
from .plots import draw_run
from .prepare import Prepared
from .runs import Run, ccc_said, command_line, learned, protocol_line
from .spectrogram import SpectrogramConfig
from .speech import WaveBlock, is_speech, speech_dls, speech_learner, with_wave
from .speech import load_encoder as load_speech_encoder
from .splits import split as make_split
from .targets import SmoothCrossEntropyFlat, TargetLoss, find_target, table_of, target_of
from .text import TINY, find_pool, fit_length, load_encoder, text_dls, text_learner, turns_of, with_context
from .training import Recipe, find_device, metrics, set_seed, two_stage

RECIPES = {  # system: recipe: settings
    'audio': {'default': Recipe(head_epochs=2, epochs=15, head_lr_range=(2e-3, 1e-2), lr_range=(2e-3, 4e-3), bs=8),
              'scratch': Recipe(epochs=15, lr_range=(7e-4, 3e-3)),
              'speech': Recipe(head_epochs=40, epochs=8, head_lr_range=(2e-3, 1e-2), lr_range=(1e-4, 1e-3), div=10., bs=16, clip=1.),
              'frozen': Recipe(head_epochs=40, epochs=0, head_lr_range=(3e-3, 6e-3), bs=16, clip=1.),
              'lora': Recipe(head_epochs=40, epochs=8, head_lr_range=(2e-3, 1e-2), lr_range=(5e-4, 2e-3), bs=16, clip=1.),
              'report': Recipe(head_epochs=5, head_lr=1e-3, epochs=10, lr=2e-4, div=2e-4/4.8e-6, bs=64)},
    'text': {'default': Recipe(head_epochs=1, epochs=8, head_lr_range=(5e-4, 5e-3), lr_range=(5e-5, 2e-4), div=2.6, clip=1.,
                               schedule='linear'),
             'scratch': Recipe(epochs=20, clip=1., schedule='linear'),
             'lora': Recipe(head_epochs=1, epochs=8, head_lr_range=(5e-4, 5e-3), lr_range=(5e-4, 2e-3), clip=1., schedule='linear'),
             'report': Recipe(epochs=4, lr=2e-5, clip=1., schedule='linear', warmup=0., wd=0.01, bs=16)},
    'fusion': {'default': Recipe(head_epochs=10, epochs=0, head_lr_range=(3e-3, 1e-2), lr_range=(3e-5, 3e-4)),
               'cached': Recipe(head_epochs=40, epochs=0, head_lr_range=(3e-3, 1e-2), lr_range=(3e-5, 3e-4)),
               'report': Recipe(head_epochs=2, head_lr=1e-4, epochs=0, lr=1e-4, wd=0.),
               'late': Recipe(head_epochs=1, head_lr=0., epochs=0, lr=0., wd=0.)},  # one pass that moves nothing: valid has said it all
}
WORDS = ('gold', 'asr')  # as somebody wrote them down, or as `fastmer transcribe` heard them
USES_SPEAKERS = ['the unlabelled recordings of each test speaker (--normalise speaker)']  # what a score by it says of itself
USES_CONTEXT = 'the transcripts before each utterance, of its dialogue (--context {})'
LEAST_BS = 4  # of batches whose concordance correlation is learned
SPEECH_SMOOTHING = 0.1  # of labels, for speech encoders: docs/results.md
VIEWS, MIN_SCALE = 3, 0.4  # of what stage 1 of a speech encoder learns from: docs/results.md
KINDS = ('scratch', 'speech', 'frozen', 'lora', 'cached', 'late')  # of networks, with a default recipe of their own
REPORT_ALEXNET = Recipe(epochs=16, lr=1e-4, clip=1., bs=1)  # the report's other audio system
SCRATCH_EPOCHS = {'alexnet': 30, 'alexnet-report': 30}      # shallow nets take more epochs, each a fraction of ResNet34's time
SEEN, MOST_EPOCHS = 10_000, 50  # small corpora want picture networks shown so many clips, in at most so many epochs: docs/results.md


def find_recipe(system, name, kind='', arch='', n=None, **changes):
    """The settings called `name` for `system` and `kind` of network (`scratch`, `speech`), with `changes` (those not `None`) laid over them

    `n`: how many utterances there are to learn from; the default recipe of picture networks shows few of them more often.
    """
    table = RECIPES[system]
    known = sorted(set(table) - set(KINDS))
    if name not in known:
        raise FastmerError(f'there is no recipe {name!r} for {system}{did_you_mean(name, known)}; there are {", ".join(known)}')
    recipe = REPORT_ALEXNET if (name, arch) == ('report', 'alexnet-report') else table[kind or name if name == 'default' else name]
    if (name, kind) == ('default', 'scratch'): recipe = recipe.but(epochs=SCRATCH_EPOCHS.get(arch))
    if n and system == 'audio' and name == 'default' and kind in ('', 'scratch'):
        recipe = recipe.but(epochs=max(recipe.epochs, min(MOST_EPOCHS, -(-SEEN//n))))
    lr = changes.pop('lr', None)
    recipe = recipe.but(**changes)
    if not recipe.head_epochs + recipe.epochs: raise FastmerError('no epoch is left to train: give --epochs or --head-epochs above 0')
    if lr is None: return recipe
    rate = None if lr == 'auto' else float(lr)
    return replace(recipe, lr=rate, head_lr=rate)


def class_weights(rows, split, vocab):
    "Inverse frequency of each label in the training part, 1 on average and for what is not there: `float32 (labels,)`"
    n = rows.label[rows.id.isin(list(split.train))].value_counts().reindex(list(vocab), fill_value=0).to_numpy()
    weights = np.where(n > 0, 1/np.maximum(n, 1), np.nan)
    return torch.tensor(np.nan_to_num(weights/np.nanmean(weights), nan=1.), dtype=torch.float32)


def _loss(prepared, split, vocab, device, weighted, smoothing=0., target=None):
    if not 0 <= smoothing < 1: raise FastmerError(f'--label-smoothing is a share from 0 to below 1, not {smoothing}')
    weight = class_weights(prepared.manifest, split, vocab).to(device) if weighted and len(vocab) else None
    return TargetLoss(target, weight, smoothing) if target else SmoothCrossEntropyFlat(weight=weight, label_smoothing=smoothing)


def _mixes(mixup, cutmix, bs):
    "fastai callbacks that mix the clips of a training batch, by the parameter of their Beta distribution; 0 is off"
    given = {f'--{name}': value for name, value in dict(mixup=mixup, cutmix=cutmix).items() if value}
    for name, value in given.items():
        if not value > 0: raise FastmerError(f'{name} must be above 0, or 0 for none, but is {value}')
    if len(given) == 2: raise FastmerError('--mixup and --cutmix both mix the clips of a batch: give one of them')
    if given and bs < 2: raise FastmerError(f'{next(iter(given))} mixes the clips of a batch: give --bs 2 or more')
    return [MixUp(mixup)] if mixup else [CutMixTime(cutmix)] if cutmix else []


def _boards(log_dir):
    "A function of the stage that gives TensorBoard callbacks"
    if log_dir is None: return lambda stage: []
    try:
        from fastai.callback.tensorboard import TensorBoardCallback
    except ImportError: raise FastmerError('--log-dir needs TensorBoard: pip install "fastmer[tensorboard]"') from None
    return lambda stage: [TensorBoardCallback(log_dir=Path(log_dir)/stage, trace_model=False, log_preds=False)]


def predict_rows(learn, rows, bs, probs=None):
    "The table of predictions of a learner for rows of the manifest, in their order; `probs` where they are known"
    if probs is None:
        with learn.no_bar(), learn.no_logging():
            probs, _ = learn.get_preds(dl=learn.dls.test_dl(rows, bs=bs))
    if not probs.isfinite().all(): raise FastmerError('the trained network gives no numbers (NaN): its learning rate was too high')
    return table_of(learn.dls, rows, probs.numpy())


def _train(system, prepared, split, run, learn, recipe, rows, about, leaks=(), log_dir=None, embedded=None, refit=None, tables=None,
           say=print):
    """Train by `recipe`, predict valid and test, score, draw, export: the part that all systems share

    `embedded`: what the frozen encoders said of `rows`; stage 1 then trains on it, and predictions are made from it where no stage 2 is.
    `refit()` gives another `(learn, embedded)`, which learns from train and valid together, once valid has been predicted, and is kept.
    `tables()` gives more tables of predictions for the test part, by name.
    """
    leaks, found = list(dict.fromkeys([*split.leaks, *leaks])), audit_split(prepared.manifest, split)
    if say and found['leaks']: say(f'audit: {", ".join(found["leaks"])} on both sides of this {split.protocol} split; every score says so')
    if say and (target := target_of(learn.dls)):
        for line in learned(target.about()): say(line)
    started = time.perf_counter()
    def fit(learn, embedded, split, choose=True):
        learn.path = run.path
        head = head_learner(learn, embedded, rows, split, recipe.bs) if embedded else None
        boards = _boards(log_dir if choose or log_dir is None else Path(log_dir)/'refit')
        return two_stage(learn, recipe, cbs=boards, head=head, choose=choose, say=say)

    def predict(part):
        of_part = by_id.loc[list(getattr(split, part))].reset_index(drop=True)
        probs = probabilities(learn, embedded, of_part.id) if embedded and not recipe.epochs else None
        run.write_predictions(predict_rows(learn, of_part, recipe.bs, probs), part)

    by_id = rows.set_index('id', drop=False)
    history, finds, best = fit(learn, embedded, split)
    predict('valid')
    if refit:
        learn, embedded = refit()
        again, _, best = fit(learn, embedded, split.with_valid(), choose=False)
        history += [row | dict(stage=f'refit {row["stage"]}', epoch=len(history) + row['epoch']) for row in again]
    seconds = round(time.perf_counter() - started, 1)
    if split.test:
        predict('test')
        for name, table in (tables() if tables else {}).items(): run.write_predictions(table, name)
    run.write_history(history)
    shutil.rmtree(run.path/'models', ignore_errors=True)  # lr_find's
    train_ids = (split.with_valid() if refit else split).train
    run.write_utterances(rows, split, train_ids)
    about = dict(system=system, vocab=list(learn.dls.vocab), corpus=', '.join(sorted(set(rows.corpus))),
                 prepared=str(prepared.path.resolve()), command=command_line(), split=split.about(), audit=found, leaks=leaks,
                 train_ids=list(train_ids), valid_ids=list(split.valid), recipe=asdict(recipe),
                 best=best, seconds=seconds, **about)
    if target := target_of(learn.dls): about |= target.about()
    run.write_json('learner.json', about)  # for scoring; the export writes it again, whole
    if not split.test: return run  # a trial of `tune_settings`: there is nothing to score, and it is not kept
    scores = run.evaluate()
    about |= dict(scores={name: scores[name] for name in ('n', 'wa', 'ua', 'dimensions') if name in scores})
    if run.labels: about['calibration'] = run.abstention()
    export_learner(learn, run.path, about)
    draw_run(run, scores, finds)
    if say:
        say(protocol_line(scores))
        said = [f'{name.upper()} {scores[name]:.3f}' for name in ('wa', 'ua', 'wer') if name in scores] + ccc_said(scores)
        say(f'test: {"  ".join(said)}  ({scores["n"]} utterances, {seconds:.0f} s of training) -> {run.path}')
        if each := scores.get('modalities'):
            say('test: ' + '  '.join(f'{name.replace("_", " ")} WA {s["wa"]:.3f} UA {s["ua"]:.3f}' for name, s in each.items()))
    return Run(run.path)


def _start(prepared, out, name, protocol, fold, seed, folds, device, split=None, corpora=(None, None)):
    "What every training begins with: the folder, the split, the run folder, the device, the seed"
    prepared = prepared if isinstance(prepared, Prepared) else Prepared.open(prepared)
    device = find_device(device)
    split = split or make_split(prepared.manifest, protocol, fold, seed, folds, *corpora)
    if strange := sorted(set(split.part_of()) - set(prepared.manifest.id)):
        raise FastmerError(f'the split names {strange[0]!r}, which {prepared.path} does not hold: make it from that folder\'s manifest')
    out = Path(out) if out else Path('runs')/f'{prepared.path.resolve().name}-{name}-{split.protocol}-fold{split.fold}-seed{seed}'
    return prepared, split, out, device


def _that_have(df, split, has, what, say):
    "The split without the utterances that lack `what`; `has`: which rows of the manifest `df` have it"
    if has.all() or not has.any(): return split  # where none has it, those who read them say more
    lacking, named = df.id[~has], split.part_of()
    if say and (n := lacking.isin(list(named)).sum()): say(f'{n} of {len(named)} utterances have no {what}, and are left out')
    left = split.without(lacking, f'it has no {what}')
    if empty := [part for part in ('train', 'valid', 'test') if getattr(split, part) and not getattr(left, part)]:
        raise FastmerError(f'no {empty[0]} utterance of {split.protocol} fold {split.fold} has a {what}: take another protocol or fold')
    return left


def _has_words(df): return (df.text.str.strip() != '') | (df.get('asr_model', '') != '')  # a recogniser that heard nothing has said so


def train_audio(prepared, out=None, arch='resnet34', weights=None, protocol='speaker', fold=1, seed=0, folds=None, recipe='default',
                head_epochs=None, epochs=None, bs=None, lr=None, div=None, patience=None, seconds=None, crops=3, resize='crop',
                augment=True, pool='mean', layers=None, hidden=0, normalise=None, lora=0, refit=False, class_weights=True,
                label_smoothing=None, mixup=0., cutmix=0., balance=False, specaugment=(2, 0.12, 0.12), perturb=(0.1, 15., 0.),
                min_scale=None, views=None, cache=True, soft_labels=False, dimensions=(), dimension_weight=1., classes=True, device=None,
                log_dir=None, overwrite=False, split=None, train_corpus=None, test_corpus=None, say=print):
    """Train a network on the pictures of a prepared folder, or a speech encoder on its recordings; returns its `Run`.

    `arch`: a torchvision or timm name, or the local folder or hub name (`owner/name`) of a speech encoder. `lr`: a number or `auto`
    (`lr_find`). `soft_labels`: learn how raters voted, where that is known; `dimensions`: columns of numbers to learn beside the label,
    such as `('valence', 'arousal')`, their loss counting `dimension_weight` times; `classes=False`: in its place. `split`: a `Split` in
    place of `protocol`, `fold` and `folds`; `train_corpus`, `test_corpus`: as in `splits.split`. Other arguments as in `fastmer
    train-audio --help`; where `None`, they depend on `arch`. Raises `FastmerError` for what cannot be done, before training starts.
    """
    speech = is_speech(arch)
    if not speech: find_arch(arch)
    if speech and (given := [name for name, value in dict(mixup=mixup, cutmix=cutmix, balance=balance).items() if value]):
        raise FastmerError(f'--{given[0]} is for picture networks: {arch} listens to recordings')
    if not speech and (given := [name for name, value in {'min-scale': min_scale, 'views': views, 'lora': lora, 'hidden': hidden,
                                                          'layers': layers, 'pool': pool != 'mean'}.items() if value]):
        raise FastmerError(f'--{given[0]} is for speech encoders: {arch} looks at pictures')
    if lora and epochs == 0: raise FastmerError('--lora trains adapters in stage 2, which --epochs 0 leaves out')
    if seconds is not None and not seconds > 0: raise FastmerError(f'--seconds must be above 0, not {seconds}')
    name = Path(arch).name if speech else arch
    prepared, split, out, device = _start(prepared, out, name, protocol, fold, seed, folds, device, split, (train_corpus, test_corpus))
    has = prepared.manifest.audio != ''
    split = _that_have(prepared.manifest, split, has, 'recording', say)
    if has.any(): prepared = prepared.with_manifest(prepared.manifest[has].reset_index(drop=True))
    changes = dict(head_epochs=head_epochs, epochs=epochs, lr=lr, div=div, patience=patience)
    smoothing = (SPEECH_SMOOTHING if speech else 0.) if label_smoothing is None else label_smoothing
    common = dict(class_weights=class_weights, label_smoothing=smoothing, augment=augment, device=device)
    weights = weights or (None if speech else 'imagenet' if recipe == 'report' else 'none')
    kind = ('lora' if lora else 'speech' if epochs != 0 else 'frozen') if speech else 'scratch' if weights == 'none' else ''
    settings = _with_bs(find_recipe('audio', recipe, kind, arch, len(split.train), **changes), bs, split, dimensions)

    def parts(split):
        set_seed(seed)
        target = find_target(prepared, split, soft_labels, dimensions, dimension_weight, classes)
        if not speech:
            return _picture_parts(prepared, split, arch, settings, weights, seconds or 3., crops, resize, normalise or 'utterance',
                                  mixup, cutmix, balance, specaugment, target=target, **common)
        return _speech_parts(prepared, split, arch, settings, weights, seconds or 8., pool, layers, hidden, normalise or 'corpus', lora,
                             cache, perturb, min_scale, views, target=target, **common)

    def both():
        learn, _, _, embedded = parts(split.with_valid())
        return learn, embedded

    learn, rows, about, embedded = parts(split)
    run = Run.create(out, overwrite)
    return _train('audio', prepared, split, run, learn, settings, rows, about | dict(arch=arch), log_dir=log_dir, embedded=embedded,
                  refit=both if refit else None, say=say)


def _check_pictures(learn, arch, config, seconds):
    "Raise `FastmerError` where the network called `arch` cannot take pictures of this size"
    picture = torch.zeros(1, 3, config.rows, config.frames(seconds), device=next(learn.model.parameters()).device)
    try:
        with torch.no_grad(): learn.model.eval()(picture)
    except Exception as e:
        raise FastmerError(f'{arch} does not take pictures of {config.rows} by {picture.shape[-1]} pixels '
                           f'({" ".join(str(e).split())[:200]}): give a longer --seconds, or an '
                           'architecture that takes any size, such as resnet34') from None


def _picture_parts(prepared, split, arch, settings, weights, seconds, crops, resize, normalise, mixup, cutmix, balance, specaugment,
                   class_weights, label_smoothing, augment, device, target=None):
    "What `_train` wants for a picture network: learner, rows, what the sidecar tells, and no embeddings"
    stats = arch_stats(arch)
    view = dict(seconds=seconds, crops=crops, resize=resize, augment=augment, stats=stats, normalise=normalise, specaugment=specaugment)
    mixes = _mixes(mixup, cutmix, settings.bs)
    dls = audio_dls(prepared, split, bs=settings.bs, device=device, balance=balance, target=target, **view)
    learn = audio_learner(dls, arch, weights, cbs=mixes, metrics=metrics(target),
                          loss_func=_loss(prepared, split, dls.vocab, device, class_weights and not balance, label_smoothing, target))
    _check_pictures(learn, arch, prepared.config, seconds)
    if settings.bs < 2 and any(isinstance(m, torch.nn.BatchNorm1d) for m in learn.model.modules()):
        raise FastmerError(f'the head of {arch} normalises over a batch, which --bs 1 leaves none: give --bs 2 or more')
    about = dict(weights=str(weights), spectrogram=asdict(prepared.config), input=view | dict(stats=[list(s) for s in stats]),
                 regularisers=dict(label_smoothing=label_smoothing, mixup=mixup, cutmix=cutmix, balance=balance))
    if normalise == 'speaker': about['uses'] = USES_SPEAKERS
    return learn, with_png(prepared, prepared.manifest), about, None


def _speech_parts(prepared, split, arch, settings, weights, seconds, pool, layers, hidden, normalise, lora, cache, perturb,
                  min_scale, views, class_weights, label_smoothing, augment, device, target=None):
    "The same for a speech encoder, with what it says of each recording, where the head is trained on that"
    if weights: raise FastmerError(f'--weights is for picture networks: {arch} brings its own')
    if normalise not in ('corpus', 'speaker'):
        raise FastmerError(f'speech encoders are normalised by corpus or by speaker, not by {normalise}')
    if normalise == 'speaker' and (pool != 'mean' or settings.epochs):
        raise FastmerError('--normalise speaker is for frozen speech encoders with mean pooling: give --epochs 0')
    encoder = load_speech_encoder(arch)
    if views and pool != 'mean': raise FastmerError('--views is for mean pooling, where stage 1 trains on what the encoder said once')
    layers = layers or 'concat'
    if views is None: views = VIEWS if augment and pool == 'mean' else 0
    if min_scale is None: min_scale = MIN_SCALE if views else 1.
    if not settings.head_epochs: views = 0  # they are for stage 1 alone
    view = dict(kind='wave', rate=encoder.rate, seconds=seconds, trim_db=prepared.config.trim_db, normalise=normalise, perturb=perturb,
                min_scale=min_scale, views=views)
    if lora: encoder.model = add_lora(encoder.model, lora)
    dls = speech_dls(prepared, split, encoder, bs=settings.bs, seconds=seconds, augment=augment, perturb=perturb, min_scale=min_scale,
                     device=device, target=target)
    learn = speech_learner(dls, encoder, pool, hidden=hidden, layers=layers, metrics=metrics(target),
                           loss_func=_loss(prepared, split, dls.vocab, device, class_weights, label_smoothing, target))
    rows = with_wave(prepared, prepared.manifest)
    learn.model.to(device)
    embed = partial(embed_rows, learn, rows, learn.model.encoder, prepared, cache=cache)
    heard = dict(arch=arch, rate=encoder.rate, trim_db=view['trim_db'])
    embedded = embed(heard)
    changed = heard | dict(seconds=seconds, perturb=perturb if augment else None, min_scale=min_scale)
    embedded.views = [embed(changed | dict(view=k), view=k) for k in range(views)]
    train = rows[rows.id.isin(list(split.train))]
    learn.model.standardise(embedded[embedded.positions(train.id)][0].to(device))
    about = dict(spectrogram=asdict(prepared.config), input=view, pool=pool, layers=layers, hidden=hidden, lora=lora,
                 regularisers=dict(label_smoothing=label_smoothing))
    if normalise == 'speaker':
        embedded = by_speaker(embedded, with_speaker(prepared, rows), learn.model.mean.cpu(), learn.model.std.cpu())
        about['uses'] = USES_SPEAKERS
    return learn, rows, about, embedded if learn.model.cacheable else None


def _with_words(prepared, split, transcripts, test_transcripts):
    "The prepared folder with the words that a training reads, gold or ASR, and what its sidecar tells of them where some are ASR"
    kinds = dict(learn=transcripts, test=test_transcripts or transcripts)
    for kind in kinds.values():
        if kind not in WORDS: raise FastmerError(f'transcripts are {" or ".join(WORDS)}, not {kind!r}{did_you_mean(kind, WORDS)}')
    if 'asr' not in kinds.values(): return prepared, {}
    ids = prepared.manifest.id
    heard = prepared.with_transcripts(ids[np.where(ids.isin(list(split.test)), kinds['test'], kinds['learn']) == 'asr'])
    return heard, dict(transcripts=kinds | dict(model=heard.manifest.asr_model.max()))


def train_text(prepared, out=None, arch='bert-base-uncased', pool='auto', max_length=128, clean=None, lora=0, context=0,
               transcripts='gold', test_transcripts=None, protocol='speaker', fold=1, seed=0, folds=None, recipe='default',
               head_epochs=None, epochs=None, bs=None, lr=None, div=None, patience=None, class_weights=True, soft_labels=False,
               dimensions=(), dimension_weight=1., classes=True, device=None, log_dir=None, overwrite=False, split=None, train_corpus=None,
               test_corpus=None, say=print):
    """Fine-tune a Hugging Face encoder on the transcripts of a prepared folder; returns its `Run`.

    `arch`: a name, a local folder, or `tiny` (a small BERT from nothing). `pool`: as in `text.find_pool`. `clean`: a language (`english`)
    whose punctuation, stop words and endings are taken off, or `None`. `lora`: rank of adapters that are trained in place of the encoder's
    own weights; 0 trains those. `context`: how many transcripts before each, of the same dialogue and the whole folder, are read with it.
    `transcripts`: the words to learn from and to choose the epoch by, `gold` or `asr` (as `fastmer transcribe` heard them);
    `test_transcripts`: those of the test part, the same where `None`. `soft_labels` and what follows: as in `train_audio`.
    """
    name, kind = Path(arch).name, 'scratch' if arch == TINY else 'lora' if lora else ''
    prepared, split, out, device = _start(prepared, out, name, protocol, fold, seed, folds, device, split, (train_corpus, test_corpus))
    if lora and arch == TINY: raise FastmerError('--lora adapts a pretrained encoder, and tiny is none: give another --arch')
    heard, words = _with_words(prepared, split, transcripts, test_transcripts)
    split = _that_have(heard.manifest, split, _has_words(heard.manifest), 'transcript', say)
    settings = find_recipe('text', recipe, kind, head_epochs=head_epochs, epochs=epochs, lr=lr, div=div, patience=patience)
    settings = _with_bs(settings, bs, split, dimensions)
    target = find_target(prepared, split, soft_labels, dimensions, dimension_weight, classes)
    set_seed(seed)
    rows = with_context(heard, heard.manifest, context)
    tokenizer, encoder = load_encoder(arch, rows.text[rows.id.isin(list(split.train))])
    pool = find_pool(encoder, pool)
    max_length = fit_length(encoder, tokenizer, max_length, turns_of(rows[rows.id.isin(list(split.part_of()))]), clean, say, context)
    if lora: encoder = add_lora(encoder, lora)
    dls = text_dls(heard, split, tokenizer, bs=settings.bs, max_length=max_length, clean=clean, device=device, context=context,
                   target=target)
    learn = text_learner(dls, encoder, tokenizer.pad_token_id, pool=pool, metrics=metrics(target),
                         loss_func=_loss(prepared, split, dls.vocab, device, class_weights, target=target))
    run = Run.create(out, overwrite)
    about = dict(arch=arch, tokenizer=dict(name=arch, size=len(tokenizer), max_length=max_length, clean=clean, context=context), pool=pool,
                 lora=lora, **words)
    if context: about['uses'] = [USES_CONTEXT.format(context)]
    leaks = context_leaks(prepared.manifest, split, context)
    return _train('text', prepared, split, run, learn, settings, rows, about, leaks, log_dir=log_dir, say=say)


def exposure(split, sidecar):
    "Ids that an encoder with this `sidecar` has seen and must not have: trained on, and in valid or test; chose its epoch, and in test"
    trained, chose = set(sidecar['train_ids']), set(sidecar['valid_ids'])
    return sorted((trained & {*split.valid, *split.test}) | (chose & set(split.test)))


def as_encoders(own, protocol, fold, seed, folds):
    "Protocol, fold, seed and folds of a fusion: those that are `None` as the audio learner, whose split is `own`, had them"
    protocol, fold, seed = protocol or own['protocol'], fold or own['fold'], own['seed'] if seed is None else seed
    return protocol, fold, seed, folds or (own['n_folds'] if protocol == own['protocol'] and protocol in ('random', 'speaker') else None)


def _renamed(manifest, sidecar):
    "Of which corpora an encoder with this `sidecar` may have seen the utterances of `manifest` under other ids, as `fastmer join` gives"
    if set(manifest.id) & {*sidecar['train_ids'], *sidecar['valid_ids']}: return []
    return sorted(set(manifest.corpus) & set(sidecar['corpus'].split(', ')) - {''})


def _check_exposure(prepared, split, sidecars, allow):
    "The leaks that encoders bring along, as sentences; raises `LeakageError` for them unless `allow`"
    leaks = [leak for sidecar in sidecars.values() for leak in sidecar['leaks']]
    for name, sidecar in sidecars.items():
        own = sidecar['split']
        if again := _renamed(prepared.manifest, sidecar):
            what = (f'the {name} encoder was trained on {", ".join(again)}, which {prepared.path} holds under other ids, so whether it has '
                    'seen what is scored here cannot be told')
            if not allow:
                raise LeakageError(f'{what}: train it on {prepared.path}, or go on with --allow-leakage, which stamps every number')
            leaks.append(what)
        if not (seen := exposure(split, sidecar)): continue
        what = (f'the {name} encoder learned from or was chosen by {len(seen)} utterances that stand in valid or test here '
                f'(the first: {seen[0]}); it was trained under {own["protocol"]} fold {own["fold"]} seed {own["seed"]}, '
                f'this is {split.protocol} fold {split.fold} seed {split.seed}')
        if not allow:
            raise LeakageError(f'{what}: the score would be of utterances that were seen before. Give an encoder of the same protocol, '
                               'fold and seed that was not trained with --refit, or go on with --allow-leakage, which stamps every number')
        leaks.append(what)
    return list(dict.fromkeys(leaks))


def train_fusion(prepared, audio, text, out=None, protocol=None, fold=None, seed=None, folds=None, recipe='default', head_epochs=None,
                 epochs=None, bs=None, lr=None, div=None, patience=None, fusion='concat', missing=None, residual=None, dropout=0.5,
                 augment=True, cache=True, views=0, transcripts='gold', test_transcripts=None, class_weights=True, soft_labels=False,
                 dimensions=(), dimension_weight=1., classes=True, allow_leakage=False, device=None, log_dir=None, overwrite=False,
                 split=None, train_corpus=None, test_corpus=None, say=print):
    """Train one head on what an audio and a text learner say, both frozen; `epochs` above 0 adds a stage that unfreezes them.

    `audio`, `text`: run folders or `learner.pkl` files. Protocol, fold and seed are those of the audio learner where `None`. `fusion`: one
    of `heads.FUSIONS`. `missing`: the probability that a training utterance loses one modality, by which the learner comes to answer from
    either alone; where `None`, 0.3 if training utterances lack one, else 0. `residual`: the head learns what to add to the calibrated
    product of both learners' own answers; where `None`, if both know these labels and the recipe is not `report`'s. `cache`: stage 1
    trains on what the encoders say of the whole utterances, worked out once, and on so many `views` of the recordings, changed at random;
    the recipe `report` does not. `transcripts`, `test_transcripts`: as in `train_text`, whatever the text learner has learned from.
    `soft_labels` and what follows: as in `train_audio`, whatever the encoders learned. Raises `LeakageError` where an encoder has seen what
    stands in valid or test here, unless `allow_leakage`.
    """
    needs, _ = find_fusion(fusion)
    if missing is not None and not 0 <= missing < 1: raise FastmerError(f'--missing is a probability from 0 to below 1, not {missing}')
    sidecars = {}
    for name, path in (('audio', audio), ('text', text)):
        _, sidecars[name] = read_sidecar(path)
        if sidecars[name]['system'] != name:
            raise FastmerError(f'{path} is a {sidecars[name]["system"]} learner: --{name} wants a run of train-{name}')
    own, heard = sidecars['audio']['split'], sidecars['audio']['input']
    wave, as_report, late = heard.get('kind') == 'wave', recipe == 'report' and fusion == 'concat', needs == 'logits'
    protocol, fold, seed, folds = as_encoders(own, protocol, fold, seed, folds)
    arch = f'{Path(sidecars["audio"]["arch"]).name}+{Path(sidecars["text"]["arch"]).name}'
    name = arch if fusion == 'concat' else f'{arch}-{fusion}'
    prepared, split, out, device = _start(prepared, out, name, protocol, fold, seed, folds, device, split, (train_corpus, test_corpus))
    context = sidecars['text']['tokenizer'].get('context', 0)
    leaks = [*_check_exposure(prepared, split, sidecars, allow_leakage), *context_leaks(prepared.manifest, split, context)]
    if not wave and SpectrogramConfig.from_dict(sidecars['audio']['spectrogram']) != prepared.config:
        raise FastmerError(f'{audio} was trained on other spectrogram settings than those of {prepared.path}: prepare with the same ones')
    for name, sidecar in sidecars.items():
        if sidecar['vocab'] != prepared.labels and (late or sidecar['vocab']):
            raise FastmerError(f'the {name} learner knows {", ".join(sidecar["vocab"]) or "no labels"}, '
                               f'and {prepared.path} holds {", ".join(prepared.labels)}')
    if wave and heard['normalise'] == 'speaker':
        raise FastmerError(f'{audio} is normalised by speaker, which fusion cannot do: train the encoder without --normalise speaker')
    if late and (head_epochs or epochs or lr):
        raise FastmerError(f'{fusion} fusion has nothing to train: leave out --head-epochs, --epochs and --lr')
    if late and (soft_labels or dimensions):
        raise FastmerError(f'{fusion} fusion is fitted to the labels of valid: --soft-labels and --dimensions are for the others')
    read, words = _with_words(prepared, split, transcripts, test_transcripts)
    has = (read.manifest.audio != '') | _has_words(read.manifest)
    split = _that_have(read.manifest, split, has, 'recording and no transcript', say)
    read = read.with_manifest(read.manifest[has].reset_index(drop=True))
    kind = 'late' if late else 'cached' if cache else ''
    settings = find_recipe('fusion', 'default' if late else recipe, kind, head_epochs=head_epochs, epochs=epochs, lr=lr, div=div,
                           patience=patience)
    settings = _with_bs(settings, bs, split, dimensions)
    may_add = not late and classes and all(sidecar['vocab'] for sidecar in sidecars.values())
    if residual and not may_add:
        raise FastmerError('--residual adds to what both learners say of labels: ' + (
            f'{fusion} fusion is that alone' if late else 'here one of the three knows dimensions alone'))
    residual = may_add and recipe != 'report' if residual is None else residual
    cached = cache and settings.head_epochs and not (late or as_report)
    if views and not cached: raise FastmerError('--views is for heads that train on what the encoders said once: not for late or stacking '
                                                'fusion, the recipe report, --no-cache or --head-epochs 0')
    target = find_target(prepared, split, soft_labels, dimensions, dimension_weight, classes)
    set_seed(seed)
    rows = with_context(read, with_audio(read, read.manifest, wave), context)
    rows_of = lambda part: rows[rows.id.isin(list(getattr(split, part)))].reset_index(drop=True)
    train = rows_of('train')
    lacks = ((train.audio == '') | (train.text.str.strip() == '')).any()
    missing = 0. if late else missing if missing is not None else 0.3 if lacks else 0.
    parts = {name: load_checked(path, device)[0] for name, path in (('audio', audio), ('text', text))}
    tokenize = parts['text'].dls.tls[0].tfms.fs[-1]
    view = {name: value for name, value in heard.items() if name in signature(WaveBlock if wave else SpectrogramBlock).parameters}
    norm = normaliser_of(parts['audio'])
    own = dict(encoder=parts['audio'].model.encoder) if wave else dict(normalise=norm)
    dls = fusion_dls(read, split, tokenize.tokenizer, bs=settings.bs, max_length=tokenize.max_length, clean=tokenize.clean,
                     device=device, context=context, target=target, **view | own | dict(augment=augment))
    learn = fusion_learner(dls, parts['audio'].model, parts['text'].model, dropout, 'sum' if as_report else 'mean',
                           norm=not as_report and settings.bs > 1, fusion=fusion, missing=missing,
                           answers=len(dls.vocab) if residual else 0, metrics=metrics(target),
                           loss_func=_loss(prepared, split, dls.vocab, device, class_weights, target=target))
    run = Run.create(out, overwrite)
    same = dict(input=heard, tokenizer=sidecars['text']['tokenizer'], normaliser=getattr(norm, 'hash', norm))
    embed = partial(embed_pairs, learn, prepared=prepared, about=same)
    embedded = embed(rows, cache=cache, views=views) if late or cached else None
    if late or residual:
        valid = rows_of('valid')
        fit_answers(learn, embedded or embed(valid, cache=False), valid)
    about = dict(arch=arch, fusion=fusion, missing=missing, residual=residual, alone=bool(late or missing or lacks),
                 spectrogram=asdict(prepared.config), input=heard | dict(augment=augment, views=views),
                 tokenizer=sidecars['text']['tokenizer'], widths=list(learn.model.widths),
                 encoders={name: dict(path=str(Path(path).resolve()), sha256=sidecars[name]['sha256'], split=sidecars[name]['split'],
                                      train_ids=sidecars[name]['train_ids'], transcripts=sidecars[name].get('transcripts'))
                           for name, path in (('audio', audio), ('text', text))}, **words)
    if uses := [what for sidecar in sidecars.values() for what in sidecar.get('uses') or []]: about['uses'] = uses

    def with_one_absent():
        test = rows_of('test')
        return by_modality(learn, embedded if embedded and not settings.epochs else embed(test, cache=False), test, seed)

    return _train('fusion', prepared, split, run, learn, settings, rows, about, leaks, log_dir=log_dir, embedded=embedded,
                  tables=with_one_absent if about['alone'] and len(dls.vocab) else None, say=say)


def _with_bs(recipe, bs, split, dimensions=()):
    "The recipe with a batch size that the training part can fill: where larger, the user's own is refused, the recipe's made smaller"
    recipe = recipe.but(bs=fit_bs(bs, len(split.train), recipe.bs))
    if dimensions and recipe.bs < LEAST_BS:
        raise FastmerError(f'--dimensions are learned by how they agree over a batch, which one of {recipe.bs} cannot tell: give --bs 16, '
                           f'or {LEAST_BS} at the least')
    return recipe
