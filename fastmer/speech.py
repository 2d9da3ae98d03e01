"""Waveforms -> emotion: pretrained speech encoders (wav2vec 2.0, HuBERT, WavLM, data2vec, Whisper, AST) in a fastai `Learner`

A batch of waveforms is one tensor `(n, samples)`; what lies behind the end of a shorter clip is NaN, so its length travels with it.
Padding changes nothing: each encoder masks it in all its layers, and a clip costs what its own length costs (Whisper's positions are cut
to it, where its authors pad to 30 s).
"""
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fastai.data.block import DataBlock, TransformBlock
from fastai.data.transforms import ColReader
from fastai.learner import Learner
from fastai.optimizer import Adam
from fastai.torch_core import TensorBase, params
from fastai.vision.augment import RandTransform
from fastcore.foundation import L
from fastcore.meta import delegates
from fasttransform import DisplayedTransform, Transform
from torch import nn
from torch.nn.utils import parametrize

from .adapters import Adaptable, learnable
from .audio import check_whole, fit_bs, split_rows
from .audio_io import audio_path, load_audio
from .callbacks import FrozenEncoders
from .embeddings import statistics
from .errors import FastmerError
from .loaders import ByLengthDL
from .spectrogram import trim
from .targets import target_block

SHORTEST = 0.25  # seconds; shorter clips are padded with silence, so that every encoder has a frame to give


class TensorWave(TensorBase):
    "A waveform `(samples,)`, or a batch of them `(n, samples)` padded with NaN"


def lengths(wave): return (~wave.isnan()).sum(-1)
def up_to(n, size): return torch.arange(size, device=n.device) < n[:, None]


# --- encoders -----------------------------------------------------------------------------------------------------------------------

class Encoder(nn.Module):
    """A Hugging Face speech encoder: `forward(wave (n, samples), n_samples (n,))` -> hidden states `(n, layers, frames, width)` and which
    frames are the clip's own `(n, frames)`

    `rate`: Hz; `longest`: seconds it can take; `fixed`: modules that stay frozen when the rest is fine-tuned.
    """
    rate, longest, fixed = 16000, 30., ()

    def __init__(self, model, extractor):
        super().__init__()
        self.model = model
        if extractor.sampling_rate != self.rate: self.rate = extractor.sampling_rate

    @property
    def width(self): return self.model.config.hidden_size
    @property
    def n_states(self): return self.model.config.num_hidden_layers + 1

    def groups(self):
        "Parameters of the lower and of the upper half, of LoRA adapters where there are some; without what stays fixed"
        layers = getattr(self.model, 'encoder', self.model).layers
        upper = {id(p) for layer in layers[len(layers)//2:] for p in layer.parameters()}
        fixed = {id(p) for name in self.fixed for p in self.model.get_submodule(name).parameters()}
        body = [p for _, p in learnable(self.model) if id(p) not in fixed]
        return [p for p in body if id(p) not in upper], [p for p in body if id(p) in upper]


class MaskedNorm(nn.GroupNorm):
    "A group norm with one group a channel, over each clip's own frames alone: `(n, channels, frames)`; `own` is set before"
    def forward(self, x):
        own = self.own[:, None].to(torch.float32)
        n, y = own.sum(-1, keepdim=True), x.float()
        mean = (y*own).sum(-1, keepdim=True)/n
        var = ((y - mean).square()*own).sum(-1, keepdim=True)/n
        return ((y - mean)*(var + self.eps).rsqrt()*self.weight[:, None] + self.bias[:, None]).to(x.dtype)


class Masked(nn.Module):
    "A layer whose output `(n, channels, frames)` is 0 behind each clip's end; `own` is set before"
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x): return self.layer(x)*self.own[:, None]


class ConvEncoder(Encoder):
    "wav2vec 2.0, HuBERT, WavLM, data2vec: convolutions over the samples (they stay frozen), then a transformer"
    fixed = ('feature_extractor',)

    def __init__(self, model, extractor):
        super().__init__(model, extractor)
        self.normalise = extractor.do_normalize
        first = model.feature_extractor.conv_layers[0]
        if getattr(model.config, 'feat_extract_norm', 'layer') == 'group':
            norm = MaskedNorm(first.layer_norm.num_groups, first.layer_norm.num_channels, first.layer_norm.eps)
            norm.load_state_dict(first.layer_norm.state_dict())
            first.layer_norm = norm
        for m in model.encoder.pos_conv_embed.modules():  # a weight norm cannot be pickled: its weight itself is trained
            if parametrize.is_parametrized(m, 'weight'): parametrize.remove_parametrizations(m, 'weight')
        if hasattr(model.encoder.pos_conv_embed, 'layers'):
            model.encoder.pos_conv_embed.layers = nn.ModuleList(map(Masked, model.encoder.pos_conv_embed.layers))

    def forward(self, wave, n):
        own = up_to(n, wave.shape[1])
        if self.normalise:  # mean 0, variance 1, as transformers' feature extractor does it
            mean = wave.sum(1)/n
            var = ((wave - mean[:, None]).square()*own).sum(1)/n
            wave = (wave - mean[:, None])*(var[:, None] + 1e-7).rsqrt()*own
        config, layer = self.model.config, self.model.feature_extractor.conv_layers[0].layer_norm
        if isinstance(layer, MaskedNorm):
            first = lambda n: (n - config.conv_kernel[0])//config.conv_stride[0] + 1
            layer.own = up_to(first(n), first(wave.shape[1]))
        frames = self.model._get_feat_extract_output_lengths(n)
        mask = up_to(frames, int(self.model._get_feat_extract_output_lengths(torch.tensor(wave.shape[1]))))
        for m in self.model.encoder.pos_conv_embed.modules():
            if isinstance(m, Masked): m.own = mask
        states = []
        layers = self.model.encoder.layers  # hooks of our own: those that output_hidden_states leaves on a model cannot be pickled
        hooks = [layers[0].register_forward_pre_hook(lambda m, args: states.append(args[0])),
                 *(layer.register_forward_hook(lambda m, args, out: states.append(out[0] if isinstance(out, tuple) else out))
                   for layer in layers)]
        try: last = self.model(input_values=wave, attention_mask=own.long()).last_hidden_state
        finally:
            for hook in hooks: hook.remove()
        return torch.stack([*states[:-1], last], 1), mask


def barred(mask):
    "An attention mask `(n, 1, 1, positions)` to add, which bars what `mask` `(n, positions)` leaves out"
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, torch.finfo(torch.float32).min)[:, None, None]


class WhisperEncoder(Encoder):
    "Whisper's encoder on clips of any length up to 30 s: its log-mel, convolutions and positions, cut to the clip"
    fixed = ('embed_positions',)

    def __init__(self, model, extractor):
        super().__init__(model.get_encoder(), extractor)
        self.n_fft, self.hop = extractor.n_fft, extractor.hop_length
        self.longest = self.model.max_source_positions*2*self.hop/self.rate
        self.register_buffer('filters', torch.tensor(np.asarray(extractor.mel_filters), dtype=torch.float32).T.contiguous())
        self.register_buffer('window', torch.hann_window(self.n_fft))

    @property
    def width(self): return self.model.config.d_model
    @property
    def n_states(self): return self.model.config.encoder_layers + 1

    def mel(self, wave, n):
        "Whisper's log-mel `(n, bands, columns)`, an even number of columns for each clip, 0 behind it; and those numbers"
        half, columns = self.n_fft//2, 2*((wave.shape[1] + 2*self.hop - 1)//(2*self.hop))
        x = F.pad(wave[:, None], (half, 0), mode='reflect')[:, 0]
        x = F.pad(x, (0, (columns - 1)*self.hop + self.n_fft - x.shape[1]))
        with torch.autocast(wave.device.type, enabled=False):
            spectrum = torch.fft.rfft(x.unfold(-1, self.n_fft, self.hop)*self.window)
            log = (self.filters @ spectrum.abs().square().transpose(1, 2)).clamp_min(1e-10).log10()
        own = 2*((n + 2*self.hop - 1)//(2*self.hop))
        mask = up_to(own, columns)[:, None]
        top = log.masked_fill(~mask, -10.).amax((1, 2), keepdim=True)
        return (torch.maximum(log, top - 8) + 4)/4*mask, own

    def forward(self, wave, n):
        mel, columns = self.mel(wave, n)
        m = self.model
        x = F.gelu(m.conv1(mel))*up_to(columns, mel.shape[2])[:, None]
        x = F.gelu(m.conv2(x)).transpose(1, 2)
        mask = up_to(columns//2, x.shape[1])
        x = F.dropout(x + m.embed_positions.weight[:x.shape[1]], m.dropout, m.training)
        states, bars = [x], barred(mask)
        for layer in m.layers: states.append(layer(states[-1], bars.to(x.dtype)))
        states[-1] = m.layer_norm(states[-1])
        return torch.stack(states, 1), mask


class ASTEncoder(Encoder):
    "The Audio Spectrogram Transformer, its positions cut to the clip; a frame is the mean over the patches of one time"
    def __init__(self, model, extractor):
        super().__init__(model, extractor)
        from transformers.audio_utils import mel_filter_bank, window_function
        c = model.config
        self.mean, self.std = (extractor.mean, 2*extractor.std) if extractor.do_normalize else (0., 1.)
        self.longest = (c.max_length*160 + 240)/self.rate
        bank = mel_filter_bank(num_frequency_bins=257, num_mel_filters=c.num_mel_bins, min_frequency=20, max_frequency=self.rate//2,
                               sampling_rate=self.rate, norm=None, mel_scale='kaldi', triangularize_in_mel_space=True)
        self.register_buffer('filters', torch.tensor(bank, dtype=torch.float32))
        self.register_buffer('window', torch.tensor(window_function(400, 'hann', periodic=False), dtype=torch.float32))

    def mel(self, wave):
        "Kaldi's log-mel filter bank `(n, columns, bands)`"
        x = wave.unfold(-1, 400, 160)
        x = x - x.mean(-1, keepdim=True)
        x = torch.cat([x[..., :1]*(1 - 0.97), x[..., 1:] - 0.97*x[..., :-1]], -1)*self.window
        with torch.autocast(wave.device.type, enabled=False): power = torch.fft.rfft(x.float(), 512).abs().square()
        return ((power @ self.filters).clamp_min(1.192092955078125e-07).log() - self.mean)/self.std

    def forward(self, wave, n):
        m, c = self.model, self.model.config
        columns = lambda n: (n - 400)//160 + 1
        times = lambda n: (columns(n) - c.patch_size)//c.time_stride + 1
        x = m.embeddings.patch_embeddings(self.mel(wave))
        rows, most = m.embeddings.get_shape(c)
        t = x.shape[1]//rows
        at = m.embeddings.position_embeddings
        places = at[:, 2:].unflatten(1, (rows, most))[:, :, :t].flatten(1, 2)
        tokens = torch.cat([m.embeddings.cls_token, m.embeddings.distillation_token], 1) + at[:, :2]
        x = m.embeddings.dropout(torch.cat([tokens.expand(len(x), -1, -1), x + places], 1))
        mask = up_to(times(n), t)
        bars = barred(torch.cat([mask.new_ones(len(x), 2), mask.repeat(1, rows)], 1)).to(x.dtype)
        states = [x]
        for layer in m.layers: states.append(layer(states[-1], bars))
        states[-1] = m.layernorm(states[-1])
        return torch.stack([s[:, 2:].unflatten(1, (rows, t)).mean(1) for s in states], 1), mask


FAMILIES = {**dict.fromkeys(('wav2vec2', 'hubert', 'wavlm', 'data2vec-audio'), (ConvEncoder, 'Wav2Vec2FeatureExtractor')),
            'whisper': (WhisperEncoder, 'WhisperFeatureExtractor'),
            'audio-spectrogram-transformer': (ASTEncoder, 'ASTFeatureExtractor')}
QUIET = dict(layerdrop=0., encoder_layerdrop=0., apply_spec_augment=False)  # no layer left out, no mask of the encoder's own


def is_speech(arch):
    "Whether `arch` names a Hugging Face model, a local folder or `owner/name`, rather than an image network"
    return '/' in str(arch) or (Path(str(arch))/'config.json').is_file()


def load_encoder(arch):
    "The speech encoder at `arch`, a local folder or a name on the hub; raises `FastmerError` where there is none that fastmer knows"
    import transformers
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
    transformers.utils.logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(arch)
        if config.model_type not in FAMILIES:
            raise FastmerError(f'{arch} is a {config.model_type} model, no speech encoder that fastmer knows; there are '
                               f'{", ".join(FAMILIES)}')
        for name, value in QUIET.items():
            if hasattr(config, name): setattr(config, name, value)
        model, loaded = AutoModel.from_pretrained(arch, config=config, output_loading_info=True)
        model = model.float()  # some are published in half precision
    except (OSError, ValueError, KeyError, RuntimeError) as e:
        if Path(arch).is_dir():
            raise FastmerError(f'{arch} holds no speech encoder that transformers can load ({str(e).splitlines()[0]})') from None
        raise FastmerError(f'the speech encoder {arch!r} could not be fetched ({type(e).__name__}): give the local folder of one with '
                           '--arch PATH, or take a picture network such as resnet34') from None
    check_whole(arch, config, [key for key in loaded['missing_keys'] if not key.endswith('masked_spec_embed')])
    family, extractor = FAMILIES[config.model_type]
    try: extractor = AutoFeatureExtractor.from_pretrained(arch)
    except (OSError, ValueError):  # a folder without preprocessor_config.json: what its family usually has
        size = {'feature_size': config.num_mel_bins} if family is WhisperEncoder else {}
        extractor = getattr(transformers, extractor)(**size)
    return family(model, extractor)


# --- the model ----------------------------------------------------------------------------------------------------------------------

class MeanPool(nn.Module):
    "The mean over a clip's own frames: `(n, frames, width)`, `(n, frames)` -> `(n, width)`"
    def __init__(self, width): super().__init__()
    def forward(self, x, mask): return (x*mask[..., None]).sum(1)/mask.sum(1, keepdim=True).clamp_min(1)


class AttentivePool(nn.Module):
    "A mean over a clip's own frames, weighted by a learned score of each (Safari et al., Interspeech 2020)"
    def __init__(self, width):
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x, mask):
        w = self.score(x)[..., 0].masked_fill(~mask, torch.finfo(x.dtype).min).softmax(1)*mask
        return (w[..., None]*x).sum(1)


POOLS = {'mean': MeanPool, 'attentive': AttentivePool}
LAYERS = ('sum', 'concat')  # how a head is given the layers' weighted states: added up, or side by side


class SpeechModel(Adaptable):
    """Encoder, its layers' states standardised and weighted, pooled over time, head: `(n, samples)` -> `(n, n_out)`

    The weights are learned. `layers`: `sum` adds the states up, as in SUPERB (Yang et al., Interspeech 2021); `concat` puts them side by
    side, so the head hears each layer on its own. `pool`: `mean` or `attentive`; `hidden`: width of a hidden layer in the head, 0 for a
    linear one. `mean`, `std` `(layers, width)` are those of the training part's clips; `standardise` sets them.
    """
    def __init__(self, encoder, n_out, pool='mean', p=0.2, hidden=0, layers='concat'):
        super().__init__()
        for what, name, known in (('pooling', pool, POOLS), ('layers', layers, LAYERS)):
            if name not in known: raise FastmerError(f'{what} {name!r} is not known; there are {", ".join(known)}')
        width, n = encoder.width, encoder.n_states
        self.register_buffer('mean', torch.zeros(n, width))
        self.register_buffer('std', torch.ones(n, width))
        if layers == 'concat': width *= n
        self.encoder, self.weights, self.layers, self.pool = encoder, nn.Parameter(torch.zeros(n)), layers, POOLS[pool](width)
        first = [nn.Dropout(p), nn.Linear(width, hidden), nn.ReLU()] if hidden else []
        self.head = nn.Sequential(*first, nn.Dropout(p), nn.Linear(hidden or width, n_out))

    def states(self, wave):
        "Hidden states `(n, layers, frames, width)` and which frames are the clip's own `(n, frames)`"
        wave = torch.as_tensor(wave).as_subclass(torch.Tensor)
        return self.encoder(wave.nan_to_num(0.), lengths(wave))

    def mix(self, states):
        "States `(n, layers, ..., width)`, standardised and weighted: `(n, ..., width)`, or where side by side `(n, ..., layers*width)`"
        lift = states.shape[1:2] + (1,)*(states.ndim - 3) + states.shape[-1:]
        states, weights = (states - self.mean.view(lift))/self.std.view(lift), self.weights.softmax(0)
        if self.layers == 'sum': return torch.einsum('nl...,l->n...', states, weights)
        return torch.einsum('nl...w,l->n...lw', states, weights).flatten(-2)

    def encode(self, wave):
        "What `mix` gives of each frame, and which of them are the clip's own: what the functions below take"
        states, mask = self.states(wave)
        return self.mix(states), mask

    def tokens_of(self, mixed, mask):
        "Frames `(n, frames, width)`, their layers summed whatever the head is given, and which are the clip's own"
        return mixed.unflatten(-1, (-1, self.encoder.width)).sum(-2), mask

    def features_of(self, mixed, mask): return self.pool(mixed, mask)
    def logits_of(self, mixed, mask): return self.head(self.features_of(mixed, mask))
    def forward(self, wave): return self.logits_of(*self.encode(wave))

    @property
    def cacheable(self): return isinstance(self.pool, MeanPool)

    def embed(self, wave):
        "All that a frozen encoder has to say of a clip, `(n, layers, width)`: mean states, which `head_of` takes on from"
        states, mask = self.states(wave)
        return ((states*mask[:, None, :, None]).sum(2)/mask.sum(1)[:, None, None].clamp_min(1),)

    def head_of(self, embedded): return self.head(self.mix(embedded))

    def standardise(self, embedded):
        "Take mean and standard deviation from clips `(n, layers, width)`"
        for held, value in zip((self.mean, self.std), statistics(embedded), strict=True): held.copy_(value)


def speech_splitter(model):
    "Three groups: lower and upper half of the encoder, and all that is learned anew; what stays fixed is in none"
    new = [model.weights, *params(model.pool), *params(model.head)]
    return L(*model.encoder.groups(), new)


# --- data ---------------------------------------------------------------------------------------------------------------------------

def prepare_wave(wave, rate, trim_db=40.):
    "What an encoder is given of a waveform at `rate` Hz: silence at the ends taken off, at least `SHORTEST` seconds: `TensorWave`"
    if trim_db and wave.any(): wave = trim(wave, trim_db)
    return TensorWave(torch.from_numpy(np.pad(wave, (0, max(0, round(SHORTEST*rate) - len(wave))))))


class LoadWave(Transform):
    "A recording's path -> `TensorWave`"
    def __init__(self, rate=16000, trim_db=40.):
        super().__init__()
        self.rate, self.trim_db = rate, trim_db

    def wave(self, audio): return prepare_wave(load_audio(audio, self.rate), self.rate, self.trim_db)
    def encodes(self, audio: str): return self.wave(audio)


class CropWave(RandTransform):
    """In training a random part of a clip, at least the share `min_scale` of it and at most `seconds`; otherwise at most `longest` seconds
    from its middle
    """
    order, split_idx = 6, None

    def __init__(self, rate, seconds, longest, min_scale=1.):
        if not 0 < min_scale <= 1: raise FastmerError(f'--min-scale is a share above 0 and at most 1, not {min_scale}')
        super().__init__(p=1.)
        if seconds is not None and not seconds > 0: raise FastmerError(f'--seconds must be above 0, not {seconds}')
        self.least, self.min_scale = round(SHORTEST*rate), min_scale
        self.most, self.longest, self.training = max(self.least, round(min(seconds or longest, longest)*rate)), round(longest*rate), False

    def before_call(self, b, split_idx): self.training = split_idx == 0

    def encodes(self, x: TensorWave):
        if not self.training: return self.still(x)
        most = self.most
        if self.min_scale < 1:
            share = self.min_scale + (1 - self.min_scale)*torch.rand(1).item()
            most = min(most, max(self.least, round(share*len(x))))
        return self.part(x, most, torch.rand(1).item())

    def still(self, x): return self.part(x, self.longest, 0.5)

    def part(self, x, most, at):
        start = round(max(0, len(x) - most)*at)
        return x[start:start + most]


class WaveAugment(RandTransform):
    """A share `p` of training clips is changed: their speed by up to `speed`, a share; by white noise; their level by up to `gain` dB

    The noise is `snr` to `snr + 25` dB below the clip; `least`: samples below which no speed brings a clip.
    """
    order, split_idx = 5, 0

    def __init__(self, speed=0.1, snr=15., gain=0., p=0.5, least=1):
        if not 0 <= speed < 1 or not gain >= 0:
            raise FastmerError(f'--perturb takes a share below 1 and two numbers of decibels, such as 0.1,15,6, not {speed},{snr},{gain}')
        super().__init__(p=p)
        self.speed, self.snr, self.gain, self.least = speed, snr, gain, least

    def encodes(self, x: TensorWave):
        speed, gain = 2*torch.rand(2) - 1
        factor, louder = 1 + self.speed*float(speed), 10**(self.gain*float(gain)/20)
        size = max(min(len(x), self.least), round(len(x)/factor))
        x = F.interpolate(x.as_subclass(torch.Tensor)[None, None], size=size, mode='linear')[0, 0]
        noise = x.std()*10**(-(self.snr + 25*torch.rand(1).item())/20)
        return TensorWave(louder*(x + noise*torch.randn(len(x))))


class PadWave(DisplayedTransform):
    "Pad the waveforms of a batch with NaN to its longest, whatever else its items hold"
    def __call__(self, samples, **kwargs):
        self.longest = max(len(x) for sample in samples for x in sample if isinstance(x, TensorWave))
        return super().__call__(tuple(samples), **kwargs)

    def encodes(self, x: TensorWave): return F.pad(x, (0, self.longest - len(x)), value=float('nan'))


def WaveBlock(encoder, trim_db=40., seconds=8., augment=True, perturb=(0.1, 15., 0.), min_scale=1.):
    """A `TransformBlock` of waveforms for `encoder`: random parts in training, as `CropWave` has them, whole clips otherwise

    `perturb`: what `WaveAugment` takes, where `augment` is set.
    """
    crop = CropWave(encoder.rate, seconds, encoder.longest, min_scale)
    item_tfms = [*([WaveAugment(*perturb, least=crop.least)] if augment else []), crop]
    return TransformBlock(type_tfms=LoadWave(encoder.rate, trim_db), item_tfms=item_tfms, dl_type=ByLengthDL,
                          dls_kwargs=dict(before_batch=PadWave()))


def with_wave(prepared, df):
    "The rows of `df` with a column `wave`, the path of the recording; raises `FastmerError` where one is not there"
    if (df.audio == '').all(): raise FastmerError(f'{prepared.path} holds no recording: only train-text can use it')
    if (bare := df.audio == '').any(): raise FastmerError(f'utterance {df.id[bare].iloc[0]!r} in {prepared.path} has no recording')
    for audio in df.audio:
        if not (path := audio_path(audio, prepared.root)).is_file():
            raise FastmerError(f'{path} is not there: speech encoders listen to the recordings themselves, so put the corpus back where '
                               'it was prepared from')
    return df.assign(wave=[str(prepared.root/Path(audio).expanduser()) for audio in df.audio])


@delegates(WaveBlock, but='encoder,trim_db')
def speech_dls(prepared, split, encoder, bs=None, num_workers=0, device=None, target=None, **kwargs):
    "`DataLoaders` of waveforms and labels (or `target`), batched by length: train and valid of `split` in a `Prepared` folder"
    rows, splitter = split_rows(with_wave(prepared, prepared.manifest), split)
    train, valid = splitter(rows)
    seconds = rows.duration.fillna(0).tolist()
    learned, get_y = target_block(prepared.labels, target)
    block = DataBlock(blocks=(WaveBlock(encoder, prepared.config.trim_db, **kwargs), learned), get_x=ColReader('wave'), get_y=get_y,
                      splitter=splitter)
    return block.dataloaders(rows, bs=fit_bs(bs, len(split.train)), num_workers=num_workers, device=device,
                             dl_kwargs=[dict(res=[seconds[i] for i in train]), dict(val_res=[seconds[i] for i in valid])])


@delegates(Learner, but='dls,model,splitter')
def speech_learner(dls, encoder, pool='mean', p=0.2, hidden=0, layers='concat', opt_func=Adam, cbs=None, **kwargs):
    "A fastai `Learner` with a `SpeechModel` around `encoder`, in three layer groups; the encoder is frozen until `unfreeze`"
    model = SpeechModel(encoder, dls.c, pool, p, hidden, layers)
    for name in encoder.fixed: encoder.model.get_submodule(name).requires_grad_(False)
    learn = Learner(dls, model, splitter=speech_splitter, opt_func=opt_func, cbs=[*L(cbs), FrozenEncoders('encoder')], **kwargs)
    learn.freeze()
    return learn
