"""Recordings -> words, by a pretrained speech recogniser (Whisper, or a CTC model such as wav2vec 2.0): `PREPARED/transcripts.csv`

Recordings are read as training reads them, mono and at the model's rate, but with the silence at their ends: faint first and last sounds
would go with it. Gold text is never touched.
"""
import hashlib
import json
import re
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from .audio_io import AudioError, audio_path
from .check import SILENT
from .errors import FastmerError, did_you_mean
from .manifest import write_csv
from .metrics import word_error_rate
from .prepare import TRANSCRIPTS, Prepared, locked, read_transcripts

EVERY = 10              # seconds between two writes of the table: what a killed run loses
FIRST_MULTILINGUAL = 51865  # tokens: a Whisper with fewer knows English alone


# --- recognisers ------------------------------------------------------------------------------------------------------------------------

class Recogniser:
    """A Hugging Face model with its feature extractor and tokenizer: `self(waves, language)` -> texts, of waveforms of one language

    `rate`: Hz; `longest`: samples that it takes at once; `languages`: codes that can be asked for, empty where it has its own.
    """
    languages = ()

    def __init__(self, model, extractor, tokenizer):
        self.model, self.extractor, self.tokenizer = model.eval().float(), extractor, tokenizer
        self.rate, self.longest = extractor.sampling_rate, 30*extractor.sampling_rate

    def inputs(self, waves):
        given = self.extractor(waves, sampling_rate=self.rate, return_tensors='pt', return_attention_mask=True)
        return given.to(self.model.device)

    def text(self, ids): return ' '.join(self.tokenizer.decode(ids, skip_special_tokens=True).split())


class Whisper(Recogniser):
    "Whisper (Radford et al., ICML 2023), greedy and without timestamps; what its generation_config.json lacks is taken from its tokenizer"
    def __init__(self, model, extractor, tokenizer):
        super().__init__(model, extractor, tokenizer)
        self.longest, made, ids = extractor.n_samples, model.generation_config, tokenizer.get_vocab()
        many = getattr(made, 'is_multilingual', model.config.vocab_size >= FIRST_MULTILINGUAL)
        known = {token: i for token, i in ids.items() if re.fullmatch(r'<\|[a-z]{2,3}\|>', token)}
        tasks = {task: ids[f'<|{task}|>'] for task in ('transcribe', 'translate') if f'<|{task}|>' in ids}
        of_tokens = dict(is_multilingual=many, no_timestamps_token_id=ids.get('<|notimestamps|>'))
        if many: of_tokens |= dict(lang_to_id=known, task_to_id=tasks)
        for name, value in of_tokens.items():
            if value is not None and not hasattr(made, name): setattr(made, name, value)
        made.forced_decoder_ids = made.max_length = None  # the old ways to say what language and max_new_tokens say
        self.languages = sorted(token.strip('<|>') for token in made.lang_to_id) if many else ['en']

    def __call__(self, waves, language=None):
        which = dict(language=language, task='transcribe') if self.model.generation_config.is_multilingual else {}
        most = round(20 + 15*max(map(len, waves))/self.rate)  # tokens, at the rate that Whisper allows 30 s: it ends what repeats itself
        ids = self.model.generate(**self.inputs(waves), max_new_tokens=min(most, self.model.config.max_target_positions - 4), num_beams=1,
                                  do_sample=False, return_timestamps=False, **which)
        return [self.text(row) for row in ids]


class CTC(Recogniser):
    "wav2vec 2.0, HuBERT, WavLM and the like with a CTC head: the likeliest token of each frame; one by one, since padding changes some"
    def __call__(self, waves, language=None):
        return [self.text(self.model(**self.inputs(wave)).logits[0].argmax(-1)) for wave in waves]


def load_recogniser(arch, device=None):
    "The `Recogniser` at `arch`, a local folder or a name on the hub, on `device`; raises `FastmerError` where there is none"
    import transformers

    from .audio import check_whole
    from .training import find_device
    transformers.utils.logging.disable_progress_bar()
    local = Path(arch).expanduser()
    source = str(local) if local.is_dir() else str(arch)
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        ctc = any(name.endswith('ForCTC') for name in config.architectures or ())
        if not ctc and config.model_type != 'whisper':
            raise FastmerError(f'{arch} is a {config.model_type} model that writes no words: give a Whisper, or a model with a CTC head')
        auto = transformers.AutoModelForCTC if ctc else transformers.AutoModelForSpeechSeq2Seq
        model, loaded = auto.from_pretrained(source, output_loading_info=True)
        model = model.float()  # some are published in half precision
        parts = [Auto.from_pretrained(source) for Auto in (transformers.AutoFeatureExtractor, transformers.AutoTokenizer)]
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as e:
        if local.is_dir():
            raise FastmerError(f'{arch} holds no recogniser that transformers can load ({str(e).strip().splitlines()[0]}): it needs '
                               'config.json, weights, preprocessor_config.json and a tokenizer') from None
        raise FastmerError(f'the recogniser {arch!r} could not be fetched ({type(e).__name__}): give the local folder of one with '
                           '--model PATH') from None
    if len(parts[1]) < config.vocab_size//2:  # transformers makes an empty one where there is none
        raise FastmerError(f'{arch} has no tokenizer for its {config.vocab_size:,} tokens: put tokenizer.json beside its weights')
    check_whole(arch, config, [key for key in loaded['missing_keys'] if not key.endswith(('masked_spec_embed', 'proj_out.weight'))])
    return (CTC if ctc else Whisper)(model.to(find_device(device)), *parts)


# --- recordings -------------------------------------------------------------------------------------------------------------------------

def pieces(wave, longest):
    "`wave` `(samples,)` in parts of at most `longest` samples, cut in the quietest hundredth of the last third of each"
    out, step = [], max(1, longest//100)
    while len(wave) > longest:
        start = longest - longest//3//step*step
        power = np.square(wave[start:longest].reshape(-1, step), dtype=np.float64).sum(1)
        cut = start + int(power.argmin())*step + step//2
        out, wave = [*out, wave[:cut]], wave[cut:]
    return [*out, wave]


def recognise(recogniser, waves, language=None, bs=8):
    "What is said in `waves`, arrays `(samples,)` of any length; nothing in those that hold silence alone"
    import torch
    parts = [(i, part) for i, wave in enumerate(waves) for part in pieces(wave, recogniser.longest) if np.abs(part).max() >= SILENT]
    said = [[] for _ in waves]
    with torch.inference_mode(), _quiet():
        for at in range(0, len(parts), bs):
            batch = parts[at:at + bs]
            for (i, _), text in zip(batch, recogniser([part for _, part in batch], language), strict=True): said[i].append(text)
    return [' '.join(filter(None, texts)) for texts in said]


@contextmanager
def _quiet():
    "Within it, transformers keeps to itself what it thinks of its own way of generating"
    from transformers.utils import logging
    was = logging.get_verbosity()
    logging.set_verbosity_error()
    try: yield
    finally: logging.set_verbosity(was)


# --- the prepared folder ----------------------------------------------------------------------------------------------------------------

def find_language(language, recogniser, arch):
    "The code of `language`, a code or an English name, that `recogniser` wants; raises `FastmerError` where it does not know it"
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE
    code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
    if code not in recogniser.languages:
        known = ', '.join(recogniser.languages)
        raise FastmerError(f'{arch} knows no language {language!r}{did_you_mean(code, recogniser.languages)}: ' +
                           (f'it knows {known}' if known else 'it writes the one that it has learned, so leave out --language'))
    return code


def _stamp(audio, root, *about):
    "SHA-256 of all that decides what is heard in the recording `audio`: its file and `about`; `''` where it is not there"
    try: stat = audio_path(audio, root).stat()
    except (OSError, RuntimeError, ValueError): return ''
    return hashlib.sha256(json.dumps([audio, stat.st_size, stat.st_mtime_ns, *about]).encode()).hexdigest()[:32]


def transcribe_prepared(prepared, model='openai/whisper-tiny', language=None, bs=8, device=None, overwrite=False, progress=None, say=print):
    """Fill `transcripts.csv` of a prepared folder with what `model` hears in its recordings; returns a dict of what came of it.

    `model`: a local folder or hub name of a Whisper or of a model with a CTC head. `language`: a code or English name, of all recordings;
    where `None`, each utterance's own from the manifest if the model knows it, else the model finds it. `overwrite`: do again what the same
    model has heard in the same recording already. `progress(total)` returns a function to call with the number of recordings done. The
    result: `utterances`, `now`, `failed` (a list of `(id, reason)`), `no_audio`, `wer` (as in `metrics.word_error_rate`, over utterances
    with a recording), `path`. Raises `FastmerError` where no recording can be read, or another run writes into the folder.
    """
    if bs < 1: raise FastmerError(f'the batch size must be at least 1, not {bs}')
    prepared = prepared if isinstance(prepared, Prepared) else Prepared.open(prepared)
    df = prepared.manifest[prepared.manifest.audio != '']
    if df.empty: raise FastmerError(f'{prepared.path} holds no recording to transcribe')
    from .embeddings import hash_model
    from .speech import LoadWave
    recogniser = load_recogniser(model, device)
    given, known = find_language(language, recogniser, model) if language else None, recogniser.languages
    if say and known and not given and (strange := sorted(set(df.language) - {*known, ''})):
        say(f'warning: {model} knows no {", ".join(strange)}, as the manifest calls the language of some utterances; expect little of it')
    df = df.assign(language=[given or (own if own in known else '') for own in df.language])
    load = LoadWave(recogniser.rate, trim_db=0)
    name = str(Path(model).expanduser().resolve()) if Path(model).expanduser().is_dir() else str(model)
    key = hash_model(recogniser.model, [recogniser.rate])
    df = df.assign(stamp=[_stamp(row.audio, prepared.root, key, row.language) for row in df.itertuples()], model=name)
    with locked(prepared.path):
        table = read_transcripts(prepared.path)
        kept = table.stamp.reindex(df.id).to_numpy() == df.stamp.to_numpy()
        todo = df[~(kept & (df.stamp != '')) | overwrite]
        table.loc[df.id[~df.id.isin(todo.id)], 'model'] = name
        advance = progress(len(df)) if progress else lambda n: None
        advance(len(df) - len(todo))
        table = _transcribe(recogniser, load, todo, table.drop(todo.id, errors='ignore'), prepared, bs, advance, say)
    return _outcome(prepared, df, todo, table)


def _transcribe(recogniser, load, todo, table, prepared, bs, advance, say):
    "`table` with what is said in the recordings `todo`, which is written down as it goes"
    new, written, path = [], time.monotonic(), prepared.path/'transcripts.csv'
    whole = lambda: pd.concat([table, pd.DataFrame(new, columns=TRANSCRIPTS)]).sort_values('id', kind='stable').set_index('id', drop=False)
    try:
        for language, rows in todo.sort_values('duration', kind='stable').groupby('language', sort=False):
            for at in range(0, len(rows), bs):
                waves, failed = {}, {}
                for row in (batch := rows.iloc[at:at + bs]).itertuples():
                    try: waves[row.id] = np.asarray(load.wave(str(prepared.root/Path(row.audio).expanduser())))
                    except AudioError as e: failed[row.id] = ' '.join(str(e).split())
                said = dict(zip(waves, recognise(recogniser, list(waves.values()), language or None, bs), strict=True))
                new += [dict(id=row.id, audio=row.audio, asr_text=said.get(row.id, ''), model=row.model, language=language,
                             error=failed.get(row.id, ''), stamp='' if row.id in failed else row.stamp) for row in batch.itertuples()]
                for name, reason in failed.items() if say else (): say(f'{name}: {reason}')
                advance(len(batch))
                if time.monotonic() - written > EVERY:
                    write_csv(whole(), path)
                    written = time.monotonic()
    finally: write_csv(whole(), path)
    return whole()


def _outcome(prepared, df, todo, table):
    failed = [(row.id, row.error) for row in table.loc[todo.id].itertuples() if row.error]
    if len(failed) == len(df):
        raise FastmerError(f'none of the {len(df)} recordings under {prepared.root} can be read; the first: {failed[0][1]}')
    return dict(utterances=len(df), now=len(todo) - len(failed), failed=failed, no_audio=len(prepared.manifest) - len(df),
                wer=word_error_rate(df.text, table.asr_text.loc[df.id]), path=prepared.path/'transcripts.csv')
