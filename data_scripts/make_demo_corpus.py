"""Synthesise the bundled demo corpus with espeak-ng: ten voices, five sessions, four emotions, in the voice, the words or both

    python data_scripts/make_demo_corpus.py          # writes fastmer/data/demo/utterances.csv and audio/*.ogg
    python data_scripts/make_demo_corpus.py --check  # how far cheap baselines come on what was written

The same versions of espeak-ng, NumPy, SciPy and libsndfile write the same bytes.
"""
import io
import re
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import click
import numpy as np
import pandas as pd
import soundfile as sf
from scipy.signal import resample_poly

SEED, RATE, PER_LABEL = 0, 16_000, 10
DEMO = Path(__file__).parents[1]/'fastmer'/'data'/'demo'
CUES = ('voice', 'words', 'both')
COLUMNS = ['id', 'audio', 'text', 'label', 'speaker', 'session', 'dialogue', 'script', 'gender', 'language', 'cue']

Voice = namedtuple('Voice', 'name pitch speed')  # espeak-ng's voice, its `-p` and its `-s`
SPEAKERS = {
    'f1': Voice('en-us+f1', 44, 180), 'm1': Voice('en+m1', 50, 172),
    'f2': Voice('en+f2', 46, 170), 'm2': Voice('en-us+m3', 45, 184),
    'f3': Voice('en-gb-scotland+f3', 42, 176), 'm3': Voice('en-gb-x-rp+m5', 54, 178),
    'f4': Voice('en-gb-x-rp+Andrea', 40, 184), 'm4': Voice('en-gb-scotland+m4', 48, 174),
    'f5': Voice('en-us+f5', 45, 174), 'm5': Voice('en-us+m6', 52, 180)}

# pitch: steps of `-p`; span: pitch range, percent; speed: factor; size: factor of the resonances (a smile raises them);
# tilt: dB an octave; glide: how far the pitch slides; bounce, tremor: depth of a 3 Hz swing of pitch, of a 6 Hz one of loudness
Delivery = namedtuple('Delivery', 'pitch span speed size tilt glide bounce tremor mark')
DELIVERIES = {
    'neutral': Delivery(0, 70, 1.00, 1.00, 0.0, .00, .00, .0, '.'),
    'angry': Delivery(14, 150, 1.24, .97, 6.5, -.12, .00, .0, '!'),
    'happy': Delivery(30, 230, .96, 1.14, 2.0, .24, .10, .0, '.'),
    'sad': Delivery(-18, 25, 0.80, .96, -5.0, -.14, .00, .4, '.')}

# words that a person may be, and that a thing may be; the neutral ones fill the same gaps
FEELINGS = {
    'angry': ('furious angry annoyed outraged fuming', 'rude unfair outrageous insulting disgraceful'),
    'happy': ('happy glad delighted thrilled cheerful', 'lovely wonderful fantastic brilliant amazing'),
    'sad': ('sad lonely unhappy heartbroken miserable', 'tragic hopeless gloomy painful depressing'),
    'neutral': ('busy ready awake early upstairs', 'ordinary typical standard familiar average')}

# each session's own sentences: four about a person, four about a thing, with a gap; then twelve that tell nothing
SENTENCES = {
    'ses1': ("""I was {} when the taxi came / My aunt is {} again today / They were all {} after lunch
                / She said you were {} last night""",
             """The letter from the bank was {} / Your message last week was {}
                / Everything about the hotel was {} / The talk on the radio is {}""",
             """The bus leaves from the other stop / I put the box on the second shelf
                / He will be here at ten past nine / The blue folder is on my desk
                / We need bread, rice and some milk / The door opens to the left / She takes the train on Tuesdays
                / There are two keys on the hook / The office is on the third floor
                / I will call him in the morning / They painted the fence in May / The lift is next to the stairs"""),
    'ses2': ("""We were {} before the meeting / The driver was {} this morning / Her brother has been {} all week
                / I am {} every time he visits""",
             """The end of the film was {} / His answer sounds {} to me / The concert on Friday was {}
                / Their plan for the summer is {}""",
             """Turn right at the next corner / The parcel came a day ago / My coat is hanging in the hall
                / You can leave the car behind the house / The shop closes at half past five
                / He lives across from the library / I wrote the number on the card / The water is in the big jug
                / She works in a different building now / Our seats are in row fourteen
                / The printer needs some more paper / They moved the table to the window"""),
    'ses3': ("""Both of us were {} on Sunday / The teacher is {} in the afternoon / I think he was {} at work
                / My sister was {} at breakfast""",
             """The trip to the coast was {} / What she wrote to us is {} / The report from school looks {}
                / Supper at their place was {}""",
             """The map is in the side pocket / I usually have tea at four / The recipe asks for two onions
                / He parked under the tall trees / The film starts in twenty minutes
                / Your jacket is on that chair / We get the paper at weekends / The path goes around the lake
                / She bought stamps and an envelope / The lamp stands beside the sofa / It takes an hour on foot
                / They have the same kind of phone"""),
    'ses4': ("""Everyone was {} at the station / I have been {} since noon / The man next door is {} tonight
                / Our guests were {} by then""",
             """The story in the paper was {} / This new timetable is {} / The speech he gave was {}
                / That weekend in town was {}""",
             """The cups go in the left cupboard / I am going to the post office / The course runs until October
                / He changed the bulb in the kitchen / Platform six is over the bridge
                / The bag weighs about four kilos / You will find it on page thirty
                / She keeps the tickets in a drawer / We have a new kind of carpet
                / The market is held on Thursdays / My watch is a minute slow / They ordered soup and a salad"""),
    'ses5': ("""The children are {} after school / At six I was already {} / Your cousin was {} on Monday
                / We are {} whenever it snows""",
             """The game yesterday was {} / Our chat in the kitchen was {} / The service in this shop is {}
                / Her idea for the garden is {}""",
             """The bike is leaning on the wall / I read the first two chapters / He comes here twice a month
                / The towels are in the basket / Our street is behind the church / The form has to be signed below
                / She wears glasses for driving / You need a coin for the locker / The river passes under the road
                / We could sit at the round table / The gate is shut after eight
                / They sell nails and wooden boards""")}


def split(sentences): return [re.sub(r'\s+', ' ', s).strip() for s in sentences.split('/')]


def told(session, label, rng):
    "(script, text) of 40: the session's eight sentences with a gap, each filled with five words of `label`"
    carriers, words = [split(o) for o in SENTENCES[session][:2]], [rng.permutation(o.split()) for o in FEELINGS[label]]
    first = rng.integers(4)
    for i in range(40):
        kind, script, word = i % 2, (first + i//2) % 4, i//2 % 5
        yield f'{session}_{"pt"[kind]}{script + 1}', carriers[kind][script].format(words[kind][word]) + '.'


def plan():
    """The table of utterances: ten of every label a speaker, of an emotion a third by voice, a third by words, a third by both

    Both speakers of a session say its twenty neutral sentences: what one says neutrally, the other says with emotion.
    """
    rows, rng, emotions = [], np.random.default_rng(SEED), [o for o in DELIVERIES if o != 'neutral']
    for s, (session, (*_, sentences)) in enumerate(SENTENCES.items()):
        texts = {label: told(session, label, rng) for label in FEELINGS}
        plain = [(f'{session}_n{i + 1:02}', f'{text}.') for i, text in enumerate(split(sentences))]
        plain = rng.permutation(plain + [next(texts['neutral']) for _ in range(2*PER_LABEL - len(plain))]).tolist()
        turns = []
        for k, gender in enumerate('fm'):
            cues = [('neutral', 'both')]*PER_LABEL + [(label, CUES[(2*s + k + e + i) % 3])
                                                      for e, label in enumerate(emotions) for i in range(PER_LABEL)]
            neutral = iter(plain[PER_LABEL*k:] + plain[:PER_LABEL*k])
            said = [(o, cue, *next(neutral if o == 'neutral' or cue == 'voice' else texts[o])) for o, cue in cues]
            turns.append([(gender, *said[i]) for i in rng.permutation(len(said))])
        for i, (gender, label, cue, script, text) in enumerate(turn for pair in zip(*turns, strict=True) for turn in pair):
            dialogue = f'{session}_d{i//10 + 1:02}'
            name, speaker = f'{dialogue}_{i % 10 + 1:02}{gender}', f'{gender}{s + 1}'
            rows.append((name, f'audio/{name}.ogg', text, label, speaker, session, dialogue, script, gender, 'en', cue))
    return pd.DataFrame(rows, columns=COLUMNS)


def speak(text, voice, how, rng):
    "`text` in `voice`, delivered as `how` says give or take a little: samples at `RATE`"
    pitch, span = voice.pitch + how.pitch + rng.normal(0, 2), how.span*rng.uniform(.8, 1.2)
    ssml = f'<prosody range="{span:.0f}%">{text.rstrip(".")}{how.mark}</prosody>'
    args = '-v', voice.name, '-p', round(np.clip(pitch, 0, 99)), '-s', round(voice.speed*how.speed*rng.uniform(.94, 1.06))
    wav = subprocess.run(['espeak-ng', '-m', '--stdout', *map(str, args), ssml], stdout=subprocess.PIPE, check=True).stdout
    x, rate = sf.read(io.BytesIO(wav))
    loud = np.flatnonzero(np.abs(x) > .01*np.abs(x).max())
    x = x[loud[0]:loud[-1]]
    t = np.arange(len(x))/rate
    bend = 1 + how.glide*rng.uniform(.7, 1.3)*(t/t[-1] - .5) + how.bounce*np.sin(2*np.pi*(3*t + rng.random()))
    x = np.interp(np.cumsum(bend/bend.mean()), np.arange(len(x)), x)  # read faster, it sounds higher
    x = resample_poly(x*(1 + how.tremor*np.sin(2*np.pi*6*t)), 320, round(441*how.size))
    octaves = np.log2(np.clip(np.fft.rfftfreq(len(x), 1/RATE), 125, 6000)/700)
    x = np.fft.irfft(np.fft.rfft(x)*10**((how.tilt + rng.normal(0, .5))*octaves/20), len(x))
    x *= .06*10**(rng.uniform(-3, 3)/20)/x.std()
    x = np.pad(x, [int(rng.uniform(.08, .2)*RATE) for _ in 'ab'])
    return np.clip(x + rng.normal(0, 2e-4, len(x)), -.98, .98)


def ogg_crc(page):
    "The checksum of an Ogg page: CRC-32, polynomial 0x04c11db7, neither reflected nor inverted"
    crc = 0
    for byte in page: crc = (crc << 8 & 0xffffffff) ^ CRC_TABLE[crc >> 24 ^ byte]
    return crc


def crc_entry(crc):
    for _ in range(8): crc = crc << 1 ^ (0x104c11db7 if crc >> 31 else 0)
    return crc


CRC_TABLE = [crc_entry(i << 24) for i in range(256)]


def write_ogg(path, x):
    "Ogg Vorbis, its stream numbered 1 and not at random as libsndfile does, so that the same samples make the same bytes"
    sf.write(path, x, RATE, format='OGG', subtype='VORBIS', compression_level=.95)
    data, out = path.read_bytes(), b''
    while data:
        size = 27 + data[26] + sum(data[27:27 + data[26]])
        page, data = data[:14] + b'\1\0\0\0' + data[18:22] + b'\0\0\0\0' + data[26:size], data[size:]
        out += page[:22] + ogg_crc(page).to_bytes(4, 'little') + page[26:]
    path.write_bytes(out)


def make_demo_corpus(folder=DEMO):
    "Write `utterances.csv` and `audio/` into `folder`; returns the table"
    df = plan()
    shutil.rmtree(folder/'audio', ignore_errors=True)
    (folder/'audio').mkdir(parents=True)
    for i, o in enumerate(df.itertuples()):
        how = DELIVERIES['neutral' if o.cue == 'words' else o.label]
        write_ogg(folder/o.audio, speak(o.text, SPEAKERS[o.speaker], how, np.random.default_rng([SEED, i])))
    df.to_csv(folder/'utterances.csv', index=False, lineterminator='\n')
    return df


def check(folder=DEMO):
    "UAR, leaving one session out, of cheap baselines on either modality, on both, and of shortcuts that should tell little"
    import librosa
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    df = pd.read_csv(folder/'utterances.csv')
    clips = [sf.read(folder/o, dtype='float32') for o in df.audio]
    assert all(rate == RATE and x.ndim == 1 for x, rate in clips)
    clips, sizes = [x for x, _ in clips], [(folder/o).stat().st_size for o in df.audio]

    def melstats(x):
        "Mean and deviation over time of log-mel and of its change"
        mel = librosa.feature.melspectrogram(y=x, sr=RATE, n_fft=1024, hop_length=256, n_mels=64)
        mel = librosa.power_to_db(mel, ref=np.max)
        return np.concatenate([f(o, axis=1) for o in (mel, librosa.feature.delta(mel)) for f in (np.mean, np.std)])

    def probs(x, model):
        return cross_val_predict(model, x, df.label, groups=df.session, cv=LeaveOneGroupOut(), method='predict_proba')

    def scaled(x, c=1.): return probs(np.stack(x), make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)))

    df['seconds'], df['words'] = [len(x)/RATE for x in clips], df.text.str.split().str.len()
    shortcuts = {'seconds': df.seconds, 'size': sizes, 'peak': [abs(x).max() for x in clips], 'rms': [x.std() for x in clips]}
    audio = scaled([melstats(x) for x in clips], .003)
    text = probs(df.text, make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=5, max_iter=1000)))
    found = {'audio': audio, 'text': text, 'both': audio + text} | {k: scaled([[o] for o in x]) for k, x in shortcuts.items()}
    print(f'{len(df)} utterances, {sum(sizes)/1e6:.2f} MB, {df.seconds.min():.2f} to {df.seconds.max():.2f} s')
    print(df.groupby('label')[['seconds', 'words']].mean().round(2))
    for k, p in found.items(): print(f"{k:9}{recall_score(df.label, np.unique(df.label)[p.argmax(1)], average='macro'):.3f}")
    return found


@click.command(help=__doc__.splitlines()[0])
@click.option('--check', 'only_check', is_flag=True, help='Write nothing: print the baselines on the corpus as it is.')
def main(only_check):
    if not only_check: make_demo_corpus()
    check()


if __name__ == '__main__': main()
