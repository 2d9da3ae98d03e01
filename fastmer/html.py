"""Runs -> one HTML page that needs no network and no other file; draws, computes nothing but the scores of subgroups

`data/report.html` holds the page: what stands where, and how it looks. Here is what it is given: scores, pictures, sounds.
"""
import base64
import hashlib
import io
import re
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup, escape

from . import crossval, ladder, plots, report, tune
from ._version import __version__
from .audio_io import load_audio
from .compare import fusion_gain
from .errors import FastmerError
from .metrics import compute_metrics
from .prepare import Prepared
from .runs import Run, few_leaks, learned, protocol_name, read_json
from .uncertainty import groups_of, intervals

TEMPLATE = Path(__file__).parent/'data/report.html'
RATE, SECONDS = 16000, 15  # Hz of a clip, and how much of it (and of its picture) a page takes
LEAST, MOST = 5, 40        # utterances below which a group gets no interval; groups of one kind that are told apart
CURVES = 10                # training curves of a pooled run
INK = {'#1f77b4': 'blue', '#ff7f0e': 'orange', '#2ca02c': 'green', '#d62728': 'red', '#808080': 'grey', '#b0b0b0': 'grid'}
NO_EMOTION = {  # in a corpus's name: why its numbers are no claim about emotion
    'pseudo-paired': 'pseudo-paired corpus: words and voice are independent given the label; no claim about emotion',
    'synthetic': 'synthetic corpus: nobody felt or said this; no claim about emotion',
}


def svg(figure, alt):
    "A figure as inline SVG in the page's colours; `alt` says in words what it shows"
    out = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>', '', plots.to_svg(figure), flags=re.S)
    out = re.sub(r' id="[a-zA-Z.\d]*_\d+"| xmlns(:xlink)?="[^"]*"', '', out)
    own = hashlib.sha256((alt + out).encode()).hexdigest()[:8]  # two figures of a page may hold the same marker
    out = re.sub(r'( id="|xlink:href="#|url\(#)(?=[a-z][0-9a-f]+["\)])', rf'\g<1>s{own}-', out).replace('xlink:href', 'href')
    out = re.sub('|'.join(INK), lambda hit: f'var(--{INK[hit[0]]})', out)
    return Markup(out.replace('<svg ', f'<svg aria-label="{escape(alt)}" ', 1))


def _uri(kind, data): return f'data:{kind};base64,{base64.b64encode(data).decode()}'


def picture(png, columns):
    "The first `columns` of a spectrogram: its data URI, and how wide it is"
    from PIL import Image
    with Image.open(png) as image:
        image, out = image.crop((0, 0, min(image.width, columns), image.height)), io.BytesIO()
        image.save(out, 'PNG', optimize=True)
        return _uri('image/png', out.getvalue()), image.width


def clip(audio, root):
    "The first seconds of a recording as a data URI: MP3 where libsndfile writes it, else WAV"
    import soundfile as sf
    wave, out = load_audio(audio, RATE, root)[:SECONDS*RATE], io.BytesIO()
    kind, name = ('MP3', 'mpeg') if 'MP3' in sf.available_formats() else ('WAV', 'wav')
    sf.write(out, wave, RATE, format=kind)
    return _uri(f'audio/{name}', out.getvalue())


def subgroups(run):
    "Scores by speaker, gender and so on, as `{by: [(name, scores, intervals or None), ...]}`; what has one value only is left out"
    df, rows = run.predictions, run.of_test()
    text = lambda name: rows[name].fillna('').astype(str) if name in rows else pd.Series('', index=df.index)
    seconds = rows.duration if 'duration' in rows else pd.Series(np.nan, index=df.index)
    edges = np.unique(seconds.quantile([0.25, 0.5, 0.75]).dropna().round(2))
    bins = [f'to {edge:.2f} s' for edge in edges] + ['longer']
    corpus = text('corpus') + ' ' if text('corpus').nunique() > 1 else ''  # two corpora may name their speakers alike
    by = {name: (corpus + text(name)).where(text(name) != '', '') for name in ('speaker', 'session')}
    by |= {name: text(name) for name in ('gender', 'language', 'corpus')}
    by['script'] = text('script_seen').replace(dict(yes='seen in training', no='not seen in training'))
    by['duration'] = pd.Series(np.array(bins)[np.searchsorted(edges, seconds.fillna(0))], df.index).where(seconds.notna(), '')
    out = {}
    for name, values in by.items():
        if (n := values.nunique()) < 2: continue
        if n > MOST: values = values.where(values.isin(values.value_counts().index[:MOST]), f'{n - MOST} others')
        found = values.replace('', 'not known').groupby(values).groups
        order = [*bins, 'not known'] if name == 'duration' else sorted(found)
        out[name] = [(value, *_score(run, df.loc[at], rows.loc[at])) for value in order if (at := found.get(value)) is not None]
    return out


def _score(run, df, rows):
    if len(df) < LEAST: return compute_metrics(df, run.labels), None
    names, over = groups_of(rows.filter(['speaker', 'corpus']).fillna(''))
    return compute_metrics(df, run.labels), intervals(df.label, df.predicted, run.labels, df.id if over == 'utterance' else names, over)


def worst(run, most):
    "The most confident wrong answers, each utterance once, as dicts with `audio, text, speaker`"
    df, rows = run.predictions, run.of_test()
    probs = run.calibrated(df) if (run.path/'predictions_valid.csv').is_file() else run.probs(df)
    said = df.predicted.map({label: i for i, label in enumerate(run.labels)}).to_numpy()
    about = {name: rows[name].fillna('').astype(str) if name in rows else '' for name in ('audio', 'text', 'speaker')}
    df = df[['id', 'label', 'predicted']].assign(confidence=probs[np.arange(len(df)), said], **about)
    df = df[df.predicted != df.label].sort_values('confidence', ascending=False, kind='stable')
    return df.drop_duplicates('id').head(most)


def seen_and_heard(run, most, audio):
    "`worst`, with the spectrogram and the recording of each; and what of those cannot be had"
    prepared, gone = _prepared(run)
    out, lacking = [], [gone] if gone else []
    for row in worst(run, most).itertuples():
        item = row._asdict() | dict(png=None, clip=None)
        if prepared and row.audio:
            step = prepared.config.hop_length/prepared.config.rate
            try:
                item['png'], columns = picture(prepared.png(row), round(SECONDS/step))
                item['seconds'] = columns*step
            except (OSError, ValueError): lacking.append('some spectrograms are not in the prepared folder any more')
            try: item['clip'] = clip(row.audio, prepared.root) if audio else None
            except (FastmerError, OSError, RuntimeError): lacking.append('some recordings are not where they were prepared from any more')
        out.append(item)
    return out, list(dict.fromkeys(lacking))


def _prepared(run):
    "The prepared folder of `run`, or why it is not to be had"
    if not (path := run.sidecar.get('prepared')): return None, 'no spectrograms and no recordings: the run names no prepared folder'
    try: return Prepared.open(path), None
    except FastmerError as e: return None, f'no spectrograms and no recordings: {e}'


def _warnings(run):
    "Why the numbers of `run` are no claim about emotion"
    corpus, prepared = str(run.sidecar.get('corpus', '')).lower(), _prepared(run)[0]
    demo = prepared and prepared.root.resolve() == TEMPLATE.resolve().parent/'demo'
    return [says for name, says in NO_EMOTION.items() if name in corpus or (demo and name == 'synthetic')]


def curves(run):
    "Training curves by the name of their training: of the run itself, or of the first folds of a pool that are still there"
    folds = [run.path/f'seed{row["seed"]}-fold{row["fold"]}' for row in run.sidecar.get('folds') or []] or [run.path]
    there = [Run.open(path) for path in folds if (path/'history.csv').is_file() and (path/'learner.json').is_file()][:CURVES]
    draw = lambda one: plots.history_figure(one.history, (one.sidecar.get('best') or {}).get('epoch'))
    return {one.path.name: svg(draw(one), f'Losses and scores by epoch of {one.path}') for one in there}, len(folds)


def _gain(run):
    try: return fusion_gain(run), ''
    except FastmerError as e: return None, str(e)


def run_section(run, at, errors=12, audio=True):
    "All that the page says of one run, under the anchor `at`"
    s, labels = run.evaluate(), bool(run.labels)  # without labels, dimensions alone are told of
    groups = subgroups(run) if labels else {}
    errors = errors if labels else 0
    parts = dict(scores='Scores', dimensions='Dimensions', classes='By label', training='Training', calibration='Calibration',
                 groups='By speaker and group', errors='Worst errors', gain='Fusion gain', audit='Audit')
    hidden = dict(calibration='calibration' not in s, errors=not errors, gain=s['system'] != 'fusion' or not labels, groups=not groups,
                  dimensions=not run.dimensions, scores=not labels, classes=not labels)
    out = dict(kind='run', id=at, title=f'{s["system"]} {plots.short(s["arch"])}', says=protocol_name(run.split), path=str(run.path), s=s,
               about=run.sidecar, parts={name: title for name, title in parts.items() if not hidden.get(name)}, groups=groups,
               warnings=_warnings(run), wrong=int((run.predictions.predicted != run.predictions.label).sum()) if labels else None)
    out['curves'], out['trainings'] = curves(run)
    out['errors'], out['lacking'] = seen_and_heard(run, errors, audio) if errors else ([], [])
    out['gain'], out['no_gain'] = _gain(run) if not hidden['gain'] else (None, '')
    if run.dimensions:
        out['scatter'] = svg(plots.dimensions_figure(run.predictions, run.dimensions), f'Predicted by true value of {run.path}')
    if 'calibration' in s:
        out['reliability'] = svg(plots.reliability_figure(s['calibration']), f'Accuracy by confidence of {run.path}')
        out['risk'] = svg(plots.risk_figure(s['calibration']), f'Risk by coverage of {run.path}')
    dots = [(name, of['ua'], i and i['ua']) for name, of, i in groups.get('speaker', [])]
    if dots: out['speakers'] = svg(plots.intervals_figure(dots, 1/len(run.labels)), f'UA by speaker of {run.path}, 95 % intervals')
    return out


def ladder_section(found, at):
    says = f'fewer and fewer things leak from training to the test part; the most honest rung, {found["honest"]}, stands in full below'
    return dict(kind='ladder', id=at, title=f'Leakage ladder on {found["corpus"]}', says=says, parts={}, found=found,
                svg=svg(plots.ladder_figure(found), f'UA by protocol of {", ".join(found["systems"])}'))


def search_section(found, at):
    of, objective = found['of'], found['objective'].replace('ua', 'UA')
    says = (f'{protocol_name(of)} · split {of["sha256"][:12]} · {len(found["labels"])} labels ({", ".join(found["labels"])}) · '
            f'n {of["counts"]["valid"]} of valid · chosen by {objective} on valid')
    failed = [r for r in found['records'] if r['error']]
    return dict(kind='search', id=at, title=f'Search of {found["system"]} settings on {found["corpus"]}', says=says, found=found,
                names=tune.searched(found['records']), failed=failed, objective=objective,
                svg=svg(tune.tuning_figure(found['records'], found['objective']), f'Valid {objective} by trial of {found["path"]}'))


def find_runs(path):
    """`(runs, ladder or None, search or None)` that stand at `path`

    A run, the systems of a cross-validation, a ladder and its honest rung, or a search and, where it is there, the run of its best.
    """
    path = Path(path)
    if (path/tune.ABOUT).is_file():
        there = [Run.open(path/'best')] if (path/'best/predictions.csv').is_file() else []
        return there, None, dict(tune.read_search(path), path=str(path), trained=[run.sidecar.get('command') for run in there])
    if (path/ladder.ABOUT).is_file():
        found = read_json(path/ladder.ABOUT)
        if lacking := {'honest', 'systems', 'rungs', 'left_out', 'corpus'} - set(found):
            raise FastmerError(f'{path/ladder.ABOUT} was not written by fastmer ladder: it has no {min(lacking)}')
        return [Run.open(path/found['honest']/system) for system in found['systems']], found, None
    if (path/crossval.ABOUT).is_file():
        there = [path/system for system in crossval.NEEDS['fusion'] if (path/system/'pooled.json').is_file()]
        if not there: raise FastmerError(f'{path} is a cross-validation that is not finished: run the same fastmer cross-validate again')
        return [Run.open(folder) for folder in there], None, None
    return [Run.open(path)], None, None


def write_report(paths, out, title=None, errors=12, audio=True):
    """The page `out` about the runs at `paths`: run folders, cross-validations, systems of them, ladders, searches. Returns `out`.

    `errors`: how many of the worst errors are shown; `audio=False` embeds no recordings, for corpora that may not be passed on. Raises
    `FastmerError` where a path holds no run, or where `out` does not end in `.html`.
    """
    out = Path(out)
    if out.suffix.lower() not in ('.html', '.htm') or out.is_dir():
        raise FastmerError(f'{out} cannot be the page: give a file whose name ends in .html')
    found = [find_runs(path) for path in paths]
    every = {run.path.resolve(): run for of, *_ in found for run in of}  # a run that is given twice is told once
    runs = [run_section(run, f'r{n}', errors, audio) for n, run in enumerate(every.values(), 1)]
    ladders = [ladder_section(of, f'l{n}') for n, of in enumerate([of for _, of, _ in found if of], 1)]
    searches = [search_section(of, f's{n}') for n, of in enumerate([of for *_, of in found if of], 1)]
    corpora = ', '.join(dict.fromkeys(str(run['s'].get('corpus', '')) for run in runs))
    told = searches if len(runs) < 2 else []
    title = title or (told[0]['title'] if told else f'{runs[0]["title"] if len(runs) == 1 else f"{len(runs)} runs"} on {corpora}')
    made = dict(python=sys.version.split()[0], **{name: version(name) for name in ('fastai', 'torch', 'numpy', 'pandas', 'scikit-learn')})
    env = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    env.filters |= dict(within=report.within, p_value=report.p_value, short=plots.short, f3='{:.3f}'.format)
    env.globals |= dict(drawn=report.drawn, ladder_notes=report.ladder_notes, calibration_line=report.calibration_line, WAYS=report.WAYS,
                        SCORES=report.SCORE_NAMES, NOTE=tune.NOTE, spread=crossval.spread, protocol_name=protocol_name, LEAST=LEAST,
                        few_leaks=few_leaks, ccc_within=report.ccc_within, learned=learned)
    page = env.from_string(TEMPLATE.read_text(encoding='utf-8')).render(
        title=title, runs=runs, ladders=ladders, searches=searches, made=made, fastmer=__version__, embeds=bool(errors and runs),
        date=datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z'))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page.lstrip(), encoding='utf-8', errors='replace')
    return out
