"""Texts and recordings that stand in a corpus twice, as they are or nearly so, found without comparing all with all

What could be alike shares a key: a text with one word left out or a run of five words, a recording the places of three peaks of its
spectrogram. Only those that share one are compared, and under a key that very many share each only with its next few neighbours.
"""
import hashlib
import re
import unicodedata
from array import array
from itertools import pairwise

import numpy as np
import pandas as pd
import scipy.fft
from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein
from scipy.ndimage import maximum_filter

FEWEST, RUN, NEIGHBOURS = 4, 5, 20        # texts: words that one must have, words in a row that make a key, how many to compare with
CHUNK, PART = 1 << 20, 1 << 22           # words hashed at once, keys sorted at once
UNSPACED = r'\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff'  # Thai, Lao, Khmer, kana, Han: a letter is a word
WORD = re.compile(rf'[{UNSPACED}]|[^\s{UNSPACED}]+')
MULTIPLIER = 0x9E3779B97F4A7C15           # of the polynomial hashes: odd, so that it has an inverse modulo 2**64

RATE, CHECK_RATE = 8000, 4000             # Hz at which a recording is fingerprinted, and at which two are compared
WINDOW, HOP, BANDS = 0.128, 0.016, (8, 256)  # s, s, and bins of 1/WINDOW Hz (62 to 2000 Hz) that peaks are looked for in
AROUND, QUIET, FAN, REACH = (5, 10), 1e-3, 4, 48  # a peak tops so many frames and bins, is no fainter; peaks, frames that one is tied to
SHARED, CLOSEST, SLACK = 3, 10, 0.05      # landmarks that two must share, recordings that one is compared with, s about the voted lag
LANDMARK = np.dtype([('hash', '<i8'), ('time', '<i4')])


class _Kept(dict):
    "For `str.translate`: letters, digits and their marks stay, apostrophes and what has no width vanish, all else becomes a space"
    def __missing__(self, code):
        char, kind = chr(code), unicodedata.category(chr(code))
        gone = char in "'`´‘’‛ʹʻʼʽ＇′" or kind == 'Cf' or '\ufe00' <= char <= '\ufe0f'
        self[code] = '' if gone else char if kind[0] in 'LN' or kind in ('Mn', 'Mc') else ' '
        return self[code]


KEPT = _Kept()


def normalise(text):
    "`text` in lower case (`str.casefold`) and NFKC, of letters and digits of any script; apostrophes dropped, one space between words"
    text = unicodedata.normalize('NFKC', text.translate(KEPT)).casefold()
    return ' '.join(unicodedata.normalize('NFKC', text).translate(KEPT).split())


def words(text):
    "Words of a text that `normalise` gave"
    return text.split() if text.isascii() else WORD.findall(text)


def same_texts(texts):
    "A number for each text `(n,)`, from 0 in order of appearance, equal where `normalise` makes texts equal; -1 where it leaves nothing"
    return pd.factorize(pd.Series([normalise(text) or None for text in texts], dtype=object))[0]


def near_texts(texts, least=0.85):
    """Pairs of texts that are nearly the same: a sorted list of `(i, j, similarity)`, `i < j` the first rows of two normalised texts.

    Similarity is `rapidfuzz.fuzz.ratio/100`. A pair is one of at least `least`, or that one word changed, added or missing tells apart,
    of texts of four words or more that share a run of five words or all words but one. Time and memory grow with the number of words.
    """
    first = {}
    for i, text in enumerate(texts): first.setdefault(normalise(text), i)
    known, flat, start, kept = {}, array('I'), array('q', [0]), []
    for text in sorted(first):  # so that neighbours under one key begin alike
        if len(said := words(text)) < FEWEST: continue
        flat.extend([known.setdefault(word, len(known)) for word in said])
        start.append(len(flat))
        kept.append(text)
    flat, start, first, found = np.array(flat), np.array(start), np.array([first[text] for text in kept], dtype=np.int64), []
    parts = (2*len(flat) + len(kept))//PART + 1
    for part in range(parts):
        pairs = _pairs(*_keys(flat, start, len(known), part, parts), len(kept))
        for at in range(0, len(pairs), CHUNK//8):
            a, b = np.divmod(pairs[at:at + CHUNK//8], len(kept))
            ratio = process.cpdist([kept[i] for i in a], [kept[i] for i in b], scorer=fuzz.ratio, dtype=np.float64)/100
            near = ratio >= least
            near[~near] = _one_word(flat, start, a[~near], b[~near])
            a, b = first[a[near]], first[b[near]]
            found.append((np.minimum(a, b)*len(texts) + np.maximum(a, b), ratio[near]))
    if not found: return []
    pairs, ratio = (np.concatenate(x) for x in zip(*found, strict=True))
    pairs, at = np.unique(pairs, return_index=True)  # two parts may hold keys of one pair
    return list(zip(*(x.tolist() for x in (*np.divmod(pairs, len(texts)), ratio[at])), strict=True))


def _one_word(flat, start, a, b):
    "Whether one word tells texts `a` and `b` `(pairs,)` apart: their Levenshtein distance, a word being a character"
    spelt = lambda i: (flat[start[i]:start[i + 1]] % 0x110000).astype('<u4').tobytes().decode('utf-32-le', 'surrogatepass')
    if not len(a): return np.zeros(0, dtype=bool)
    return process.cpdist([spelt(i) for i in a], [spelt(i) for i in b], scorer=Levenshtein.distance, score_cutoff=1) == 1


def _keys(flat, start, n_words, part, parts):
    """Keys `uint64` and the texts `int64` they belong to, both `(keys,)`, of one of `parts` of all keys

    They are polynomials in `MULTIPLIER` modulo 2**64 of one random number a word, had from running sums: of the whole text, of the text
    without each of its words, of each run of `RUN` words.
    """
    value = np.random.default_rng(0).integers(0, 2**64, n_words, dtype=np.uint64)
    cuts = np.unique(np.r_[np.searchsorted(start, np.arange(0, len(flat), CHUNK)), len(start) - 1])
    longest = int(np.diff(start[cuts]).max(initial=0)) + 1
    up, down = (np.cumprod(np.r_[np.uint64(1), np.full(longest, x, dtype=np.uint64)]) for x in (MULTIPLIER, pow(MULTIPLIER, -1, 2**64)))
    keys, owners = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    for a, b in pairwise(cuts):
        edge = start[a:b + 1] - start[a]
        total = np.r_[np.uint64(0), np.cumsum(value[flat[start[a]:start[b]]]*up[:edge[-1]])]
        text = np.repeat(np.arange(b - a), np.diff(edge))
        here, begin, end = np.arange(edge[-1]), edge[text], edge[text + 1]
        run = here[here + RUN <= end]
        for key, own in (((total[edge[1:]] - total[edge[:-1]])*down[edge[:-1]], np.arange(b - a)),
                         ((total[here] - total[begin] + (total[end] - total[here + 1])*down[1])*down[begin], text),
                         ((total[run + RUN] - total[run])*down[run], text[run])):
            mine = (key >> np.uint64(32)) % np.uint64(parts) == part
            keys.append(key[mine])
            owners.append(own[mine] + a)
    return np.concatenate(keys), np.concatenate(owners)


def _pairs(keys, owners, n):
    "Pairs of owners under one key, each with its next `NEIGHBOURS`, as sorted numbers `i*n + j`"
    order = np.lexsort((owners, keys))
    keys, owners = keys[order], owners[order]
    new = np.r_[True, (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1])][:len(keys)]
    keys, owners = keys[new], owners[new]
    out = [np.zeros(0, dtype=np.int64)]
    for k in range(1, NEIGHBOURS + 1):
        both = np.flatnonzero(keys[k:] == keys[:-k])
        if not len(both): break
        out.append(owners[both]*n + owners[both + k])
    return np.unique(np.concatenate(out))


def fingerprint(wave, rate):
    """Digest and landmarks of `wave` `(samples,)` at `rate` Hz, to be compared with those of the same rate only.

    The digest is the SHA-256 of the samples as int16 without the silence at both ends, `''` where nothing else is there. Landmarks are an
    array of `hash` and `time` (steps of 16 ms): peaks of the spectrogram with two that follow, their frequencies and distances. They are
    Wang's, "An Industrial-Strength Audio Search Algorithm", ISMIR 2003, but for a third peak: his pairs recur in all speech.
    """
    whole = np.round(np.clip(wave, -1, 1)*32767).astype('<i2')
    sound = np.flatnonzero(whole)
    digest = hashlib.sha256(whole[sound[0]:sound[-1] + 1].tobytes()).hexdigest() if len(sound) else ''
    time, freq = _peaks(np.asarray(wave, dtype=np.float32), rate)
    out = [np.zeros(0, dtype=LANDMARK)]
    for a in range(1, FAN):
        for b in range(a + 1, FAN + 1):
            n = max(0, len(time) - b)
            p, q, r = slice(n), slice(a, a + n), slice(b, b + n)
            near = (time[r] - time[p] <= REACH) & (time[r] > time[p])
            marks = np.zeros(near.sum(), dtype=LANDMARK)
            for x in (freq[p], freq[q], freq[r], time[q] - time[p], time[r] - time[p]): marks['hash'] = marks['hash']*256 + x[near]
            marks['time'] = time[p][near]
            out.append(marks)
    return digest, np.concatenate(out)


def _peaks(wave, rate):
    "Frames and bins of the spectrogram's peaks in order of time; a minute or two at a time, so that an hour fits in memory"
    size, hop, (lo, hi), (frames, bins) = round(WINDOW*rate), round(HOP*rate), BANDS, AROUND
    taper = (np.hanning(size)*4/size).astype(np.float32)  # a tone's height is its amplitude
    steps = np.lib.stride_tricks.sliding_window_view(np.pad(wave - wave.mean(), size//2), size)[::hop]
    found = []
    for at in range(0, len(steps), 8192):
        begin, end = max(0, at - frames), at + 8192 + frames
        power = scipy.fft.rfft(steps[begin:end]*taper, axis=1)[:, lo:hi]
        power = power.real**2 + power.imag**2
        time, freq = np.nonzero((power == maximum_filter(power, (2*frames + 1, 2*bins + 1))) & (power > 2.**-34))
        mine = (time + begin >= at) & (time + begin < at + 8192)
        found.append((time[mine] + begin, freq[mine], power[time[mine], freq[mine]]))
    time, freq, height = (np.concatenate(x) for x in zip(*found, strict=True))
    loud = height > QUIET**2*height.max(initial=0)
    return time[loud], freq[loud]


def near_audio(landmarks, load, least=0.8):
    """Pairs of recordings of which one is, or holds, a copy of the other: a sorted list of `(i, j, similarity)`, `i < j`.

    `landmarks`: one array a recording, as `fingerprint` gives them; `load(i)`: its wave `(samples,)` at `CHECK_RATE` Hz. Similarity is the
    normalised cross-correlation, 0 to 1, over the shorter one's length, where the landmarks that both share say that it lies.
    """
    out = []
    for i, j, lag in _candidates(landmarks):
        similarity = _correlation(load(i), load(j), lag*HOP)
        if similarity >= least: out.append((i, j, similarity))
    return out


def _candidates(landmarks):
    "`(i, j, lag)` of recordings that share `SHARED` landmarks or more at one lag (steps by which they come later in i), in order"
    n = len(landmarks)
    owner = np.repeat(np.arange(n), [len(marks) for marks in landmarks])
    marks = np.concatenate([np.zeros(0, dtype=LANDMARK), *landmarks])
    order = np.argsort(marks['hash'], kind='stable')
    key, time, owner = marks['hash'][order], marks['time'][order], owner[order]
    pairs, lags = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for k in range(1, CLOSEST + 1):
        both = np.flatnonzero((key[k:] == key[:-k]) & (owner[k:] != owner[:-k]))
        pairs.append(owner[both]*n + owner[both + k])
        lags.append(time[both].astype(np.int64) - time[both + k])
    pairs, which = np.unique(np.concatenate(pairs), return_inverse=True)
    votes, count = np.unique((which << 32) + np.concatenate(lags) + (1 << 31), return_counts=True)
    which, lags = votes >> 32, (votes & 0xFFFFFFFF) - (1 << 31)
    count[:-1] += np.where(np.diff(votes) == 1, count[1:], 0)  # a step more: the cut may lie between two frames
    best = np.lexsort((-count, which))
    best = best[np.r_[True, np.diff(which[best]) > 0][:len(best)]]
    return [(*divmod(int(pairs[which[x]]), n), int(lags[x])) for x in best[count[best] >= SHARED]]


def _correlation(a, b, lag):
    "Highest normalised correlation, 0 to 1, of waves `a` and `b` at `CHECK_RATE` Hz, what comes in b coming about `lag` s later in a"
    a, b = a - a.mean(), b - b.mean()
    if len(a) < len(b): a, b, lag = b, a, -lag
    slack = round(SLACK*CHECK_RATE)
    first = round(lag*CHECK_RATE) - slack
    want = np.arange(first, first + len(b) + 2*slack)
    stretch = np.where((want >= 0) & (want < len(a)), a[np.clip(want, 0, len(a) - 1)], 0)
    size = scipy.fft.next_fast_len(len(stretch), real=True)
    spectrum = scipy.fft.rfft(stretch, size)*scipy.fft.rfft(b, size).conj()
    product = 4*scipy.fft.irfft(spectrum, 4*size)[:8*slack + 1]  # at every quarter of a sample
    energy = np.r_[0, np.cumsum(stretch.astype(np.float64)**2)]
    energy = (energy[len(b):] - energy[:-len(b)])[np.arange(8*slack + 1)//4]*(b.astype(np.float64)**2).sum()
    return float(min(1, np.max(np.abs(product)/np.sqrt(np.maximum(energy, 1e-4*energy.max()) + 1e-12))))
