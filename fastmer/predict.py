"Recordings and words -> emotion, with an exported learner; the same functions that made the training pictures make the input here"
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from fastai.data.transforms import Normalize
from fastai.vision.core import TensorImage

from .audio import normaliser_of
from .audio_io import AudioError, load_audio, resample
from .augment import FitTime
from .calibration import scale, threshold_of
from .embeddings import in_place_of, statistics
from .errors import FastmerError
from .spectrogram import SpectrogramConfig, to_image
from .speech import CropWave, prepare_wave
from .text import Tokenize, Turn, as_context

UNKNOWN = 'unknown'  # the answer below the threshold


def _first(pipeline, kind): return next((tfm for tfm in pipeline.fs if isinstance(tfm, kind)), None)


class Predictor:
    "An exported learner, ready for new recordings and words; `fastmer.load(path)` makes one"
    def __init__(self, learn, sidecar):
        self.model, self.sidecar, self.labels = learn.model.eval(), sidecar, list(sidecar['vocab'])
        self.system, self.said = sidecar['system'], learn.loss_func.activation
        self.dimensions = list(sidecar.get('dimensions') or ())
        self.device = next(self.model.parameters()).device
        self.fit, self.norm = _first(learn.dls.valid.after_item, FitTime), _first(learn.dls.valid.after_batch, Normalize)
        self.tokenize = next((tfm for pipe in learn.dls.tls for tfm in pipe.tfms.fs if isinstance(tfm, Tokenize)), None)
        self.config = SpectrogramConfig.from_dict(sidecar['spectrogram']) if sidecar.get('spectrogram') else None
        self.listens = (sidecar.get('input') or {}).get('kind') == 'wave'  # to recordings themselves, where others look at pictures
        self.normalise = normaliser_of(learn)
        self.crop = _first(learn.dls.valid.after_item, CropWave)
        self.speakers = {}  # statistics of those that were met

    @property
    def needs(self): return tuple(name for name in ('audio', 'text') if self.system in (name, 'fusion'))

    def waveform(self, audio, rate=None):
        "Mono `float32` at the learner's rate from a path or an array `(samples,)` or `(samples, channels)` of `rate` Hz"
        to = self.sidecar['input']['rate'] if self.listens else self.config.rate
        if not isinstance(audio, np.ndarray): return load_audio(audio, to)
        if rate is None: raise FastmerError('an array of samples needs its rate: predict(audio=samples, rate=16000)')
        if not audio.size: raise AudioError('the array holds no sample')
        if audio.ndim > 2 or (audio.ndim == 2 and audio.shape[1] > audio.shape[0]):
            raise AudioError(f'an array of samples has the shape (samples,) or (samples, channels), not {audio.shape}')
        scale = 1 + np.iinfo(audio.dtype).max if np.issubdtype(audio.dtype, np.signedinteger) else 1  # as sound files have them
        wave = np.asarray(audio/scale, dtype=np.float32)
        return resample(wave.mean(axis=1) if wave.ndim == 2 else wave, rate, to)

    def image(self, audio, rate=None):
        "The picture of a recording, as `fastmer prepare` draws it"
        image = to_image(self.waveform(audio, rate), self.config)
        if image.shape[1] < self.config.min_frames:
            raise AudioError(f'the recording is too short: {image.shape[1]} columns, '
                             f'below the {self.config.min_frames} that the learner wants')
        return image

    def picture(self, audio, rate=None, speaker=None):
        "Normalised windows of a recording, as in evaluation: `(1, crops, 3, rows, frames)`, or `(1, 3, rows, frames)` when squished"
        image = self.image(audio, rate)
        if self.normalise != 'utterance': image = self.normalise(image, own=self.speakers.get(speaker))
        if image.ndim == 2: image = np.repeat(image[..., None], 3, axis=-1)
        x = self.fit.still(TensorImage(torch.from_numpy(image.transpose(2, 0, 1).copy())))
        mean, std = self.norm.mean.as_subclass(torch.Tensor).cpu(), self.norm.std.as_subclass(torch.Tensor).cpu()
        return (x.as_subclass(torch.Tensor)[None].float()/255 - mean)/std

    def sound(self, audio, rate=None, speaker=None):
        "What the learner is given of a recording: its `picture`, or for a speech encoder the waveform `(1, samples)`"
        if not self.listens: return self.picture(audio, rate, speaker)
        view = self.sidecar['input']
        return self.crop.still(prepare_wave(self.waveform(audio, rate), view['rate'], view['trim_db']))[None]

    def ids(self, text, context=''):
        "Token ids of a transcript, and of the turns before it, one a line: `(1, tokens)`"
        return torch.tensor([self.tokenize.ids(Turn(text, context))])

    def turns(self, context):
        "`context`, a list of turns or one a line, as `Turn` has it; raises `FastmerError` where the learner reads none"
        if context and not (self.tokenize and self.tokenize.context):
            raise FastmerError(f'this {self.system} learner reads no context: leave it out, or train one with train-text --context 3')
        return context if isinstance(context, str) else as_context(context or ())

    def uses(self, audio=None, text=None):
        "Which of what is given the learner answers from, such as `['audio']`; raises `FastmerError` where it needs more"
        alone, given = self.sidecar.get('alone'), dict(audio=audio, text=text)
        if alone and audio is not None and not str(text or '').strip(): given['text'] = None
        for name in self.needs:
            if given[name] is None and not (alone and any(given[other] is not None for other in self.needs)):
                raise FastmerError(f'this {self.system} learner needs {" and ".join(self.needs)}, and no {name} was given' if not alone else
                                   'this fusion learner needs audio, text or both, and neither was given')
        if 'text' in self.needs and given['text'] is not None and not str(text).strip():
            raise FastmerError('the transcript is empty: give the words that were said')
        return [name for name in self.needs if given[name] is not None]

    def nothing(self, name):
        "What stands for a modality that is absent: padding, or a recording as `fusion.heard` knows an absent one"
        if name == 'text': return torch.tensor([[self.tokenize.tokenizer.pad_token_id]])
        return torch.full((1, self.sidecar['input']['rate']), float('nan')) if self.listens else torch.zeros(1, 3, 1, 1)

    @torch.inference_mode()
    def meet(self, speaker, recordings, rate=None):
        """Listen to unlabelled `recordings` (paths, or arrays of `rate` Hz) of one speaker: `predict(..., speaker=speaker)` goes by them.

        For learners of `--normalise speaker`; others have no use for it. What cannot be decoded is left out, and fewer than two recordings
        change nothing: what is said then goes by the training part, as it does of a speaker who was never met.
        """
        if (self.sidecar.get('input') or {}).get('normalise') != 'speaker': return
        heard = []
        for audio in recordings:
            try: heard.append(self.states(audio, rate) if self.listens else self.image(audio, rate))
            except AudioError: pass
        if len(heard) < 2: return
        self.speakers[speaker] = statistics(torch.cat(heard)) if self.listens else self.normalise.statistics(heard)

    def states(self, audio, rate=None):
        "What a frozen speech encoder says of a recording: `(1, layers, width)`"
        return self.model.embed(self.sound(audio, rate).to(self.device))[0]

    @torch.inference_mode()
    def outputs(self, audio=None, text=None, rate=None, speaker=None, context=None):
        "Probabilities of the labels, then dimensions on the corpus's own scale: `float (labels + dimensions,)`"
        used, before = self.uses(audio, text), self.turns(context)
        if self.listens and speaker in self.speakers:
            out = self.model.head_of(in_place_of(self.states(audio, rate), *self.speakers[speaker], self.model.mean, self.model.std))
        else:
            given = dict(audio=lambda: self.sound(audio, rate, speaker), text=lambda: self.ids(str(text), before))
            inputs = [given[name]() if name in used else self.nothing(name) for name in self.needs]
            out = self.model(*(x.to(self.device) for x in inputs))
        return self.said(out.float())[0].cpu().numpy()

    def probabilities(self, *args, **kwargs):
        "Probabilities of the labels, `float (labels,)`; arguments as in `outputs`"
        return self.outputs(*args, **kwargs)[:len(self.labels)]

    def threshold(self, abstain_below):
        """The confidence below which not to answer: a number is one, `('error', 0.1)` the one that kept the error on valid at 10 %.

        `None` stays `None`. Raises `FastmerError` where valid never reached that, or the learner kept nothing of valid.
        """
        if abstain_below is not None and not self.labels:
            raise FastmerError('this learner gives dimensions alone: leave out --abstain-below, which is about labels')
        if abstain_below is None or isinstance(abstain_below, (int, float)): return abstain_below
        kind, value = abstain_below
        if kind == 'threshold': return value
        curve = self.sidecar.get('calibration')
        if not curve: raise FastmerError('this learner kept no calibration of its valid part: give a confidence, such as 0.6, instead')
        return threshold_of(curve, value, curve['n_valid'])['threshold']

    def predict(self, audio=None, text=None, rate=None, abstain_below=None, speaker=None, context=None):
        """`{'label': ..., 'confidence': ..., 'probabilities': {label: p}, 'modalities': ['audio', 'text']}` of one utterance.

        `audio`: a path (any rate, channel count and length) or an array of samples with its `rate`; `text`: the words. `context`: for a
        learner trained with `--context`, the turns before these words, the earliest first: a list, or a string of one a line; without it
        the utterance is read as the first of a dialogue. `confidence` is the highest probability at the temperature fitted on valid; below
        `abstain_below` (as in `threshold`) the label is `unknown`. `speaker`: who speaks, where the learner has had a chance to `meet`
        them. A learner of dimensions adds `'dimensions': {'valence': 2.5}`, on the scale of its corpus; one of dimensions alone says
        nothing of labels. Raises `FastmerError` where what the learner needs is missing, `AudioError` where the recording cannot be
        decoded.
        """
        said, least = self.outputs(audio, text, rate, speaker, context), self.threshold(abstain_below)
        probs, values = said[:len(self.labels)], said[len(self.labels):]
        out = dict(dimensions=dict(zip(self.dimensions, map(float, values), strict=True))) if self.dimensions else {}
        out |= dict(modalities=self.uses(audio, text))
        if not self.labels: return out
        confidence = float(scale(probs[None].astype(np.float64), (self.sidecar.get('calibration') or {}).get('temperature', 1.)).max())
        label = self.labels[int(probs.argmax())] if least is None or confidence >= least else UNKNOWN
        return dict(label=label, confidence=confidence, probabilities=dict(zip(self.labels, map(float, probs), strict=True))) | out


def utterances(audio=(), texts=(), table=None, same_speaker=False, context=()):
    """Dicts with `audio` and `text` (either may be `None`), from paths and words in the same order, or a CSV table

    A table's paths are relative to it. `context`: the turns before the one utterance of `texts`; a table has a column of that name, a turn
    a line. Dicts then have it too, and `speaker` where the table has such a column, or all `audio` are of the `same_speaker`.
    """
    if table is not None:
        if audio or texts or context: raise FastmerError('give recordings and --text, or --table, not both')
        return _from_table(Path(table))
    if context and len(texts) != 1:
        raise FastmerError(f'--context is what was said before one --text, and {len(texts)} were given: put several utterances into a '
                           '--table with a column context')
    if audio and texts and len(audio) != len(texts):
        raise FastmerError(f'{len(audio)} recordings and {len(texts)} texts were given: give one --text for each recording, in their order')
    if not audio and not texts: raise FastmerError('there is nothing to predict: give a recording, --text or --table')
    n, more = max(len(audio), len(texts)), dict(speaker='the same') if same_speaker else {}
    if context: more['context'] = as_context(context)
    return [dict(audio=a, text=t, **more) for a, t in zip(audio or [None]*n, texts or [None]*n, strict=True)]


def _from_table(path):
    from .corpora.table_io import load_table
    if not path.exists(): raise FastmerError(f'{path} is not there')
    df = load_table(path)
    if not {'audio', 'text'} & set(df):
        raise FastmerError(f'{path} has neither a column audio nor text; it has {", ".join(map(str, df.columns))}')
    cell = lambda row, name: str(row[name]).strip() or None if name in df else None
    return [dict(audio=str(path.parent/a) if (a := cell(row, 'audio')) else None, text=cell(row, 'text'),
                 **{name: c for name in ('speaker', 'context') if (c := cell(row, name))}) for _, row in df.iterrows()]


def predict_all(predictor, items, abstain_below=None):
    """What `predictor` says of each of `items`, with its `audio` and `text`; an item that cannot be used gets `error`, a sentence, instead

    It meets each `speaker` that they name first.
    """
    out, recordings = [], defaultdict(list)
    for item in items:
        predictor.turns(item.get('context'))  # of a learner that reads none, it is said once
        if item.get('speaker') and item.get('audio'): recordings[item['speaker']].append(item['audio'])
    for speaker, of_one in recordings.items(): predictor.meet(speaker, of_one)
    for item in items:
        try: out.append({**item, **predictor.predict(**item, abstain_below=abstain_below)})
        except FastmerError as e: out.append({**item, 'error': ' '.join(str(e).split())})
    return out
