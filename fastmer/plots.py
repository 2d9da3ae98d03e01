"Numbers -> pictures: PNG files for a run folder, SVG for the HTML report; draws, computes nothing"
import io
import re

import numpy as np

from .runs import protocol_name

WIDTH = 0.62  # inches a label takes in a confusion matrix


def _figure(width, height):
    "A figure of its own, on no shared pyplot state and without a display"
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def short(arch): return '+'.join(part.rstrip('/').rsplit('/', 1)[-1] for part in str(arch).split('+'))


def to_svg(figure):
    "A figure as an SVG element whose black takes the page's text colour, without a background"
    from matplotlib import rc_context
    out = io.StringIO()
    with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'fastmer'}):
        figure.savefig(out, format='svg', transparent=True, metadata=dict(Date=None))
    svg = out.getvalue()
    svg = re.sub(r'#000000\b|(?<=[ :])black\b', 'currentColor', svg[svg.index('<svg'):])
    return re.sub(r'<svg ', '<svg role="img" ', svg, count=1)


def draw_confusion(scores, path):
    "Confusion matrix as counts and as percentages of each row, side by side"
    labels, counts = scores['confusion']['labels'], np.array(scores['confusion']['counts'])
    share = counts/np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(3.4, WIDTH*len(labels) + 1.6)
    figure = _figure(2*side, side + 0.5)
    for ax, values, title in zip(figure.subplots(1, 2), (counts, 100*share), ('utterances', 'percent of each row'), strict=True):
        ax.imshow(share, cmap='Blues', vmin=0, vmax=1)
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                ax.text(j, i, f'{value:.0f}', ha='center', va='center', fontsize=9, color='white' if share[i, j] > 0.55 else 'black')
        ax.set_xticks(range(len(labels)), labels, rotation=35, ha='right', parse_math=False)
        ax.set_yticks(range(len(labels)), labels, parse_math=False)
        ax.set_xlabel('predicted'), ax.set_ylabel('true'), ax.set_title(title, fontsize=10)
    figure.suptitle(f'{scores["system"]} {short(scores["arch"])} · {protocol_name(scores["split"])} · n {scores["n"]} · '
                    f'WA {scores["wa"]:.3f} · UA {scores["ua"]:.3f}' + (' · LEAKS' if scores.get('leaks') else ''), fontsize=10)
    figure.savefig(path, dpi=120)


def history_figure(history, best=None):
    "Losses and scores by epoch; both losses and both scores are of train and valid, never of test"
    figure = _figure(8.4, 3.4)
    losses, scores = figure.subplots(1, 2)
    drawn = {losses: dict(train_loss='train loss', valid_loss='valid loss'), scores: dict(accuracy='valid WA', ua='valid UA') |
             {name: f'valid CCC {name[4:]}' for name in history if name.startswith('ccc_')}}
    head = (history['stage'] == 'head').sum()
    for ax, names in drawn.items():
        for name in [name for name in names if name in history]: ax.plot(history['epoch'], history[name], marker='.', label=names[name])
        if 0 < head < len(history): ax.axvline(head + 0.5, color='grey', lw=0.8, ls=':', label='unfreeze')
        if best: ax.axvline(best, color='tab:green', lw=0.8, ls='--', label='kept epoch')
        ax.set_xlabel('epoch')
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize=8, framealpha=0)
    losses.set_ylabel('loss'), scores.set_ylabel('score'), scores.set_ylim(min(0, scores.get_ylim()[0]), 1.02)
    return figure


def draw_history(history, path, best=None): history_figure(history, best).savefig(path, dpi=120)


def reliability_figure(calibration):
    "Accuracy by confidence, as the learner gives it and at the temperature fitted on valid; bars say how many utterances"
    figure = _figure(4.4, 3.8)
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color='grey', lw=0.8, ls=':')
    for name, color, label in (('', 'tab:orange', 'as given'), ('_calibrated', 'tab:blue', 'temperature')):
        bins = calibration[f'reliability{name}']
        ax.plot([b['confidence'] for b in bins], [b['accuracy'] for b in bins], marker='o', ms=4, color=color,
                label=f'{label}: ECE {calibration[f"ece{name}"]:.3f}')
    n = max(1, sum(b['n'] for b in bins))
    ax.bar([(b['low'] + b['high'])/2 for b in bins], [b['n']/n for b in bins], 1/calibration['bins'], color='tab:blue', alpha=0.2)
    ax.set_xlabel('confidence'), ax.set_ylabel('accuracy (bars: share of utterances)'), ax.set_xlim(0, 1), ax.set_ylim(0, 1.02)
    ax.legend(fontsize=8, loc='upper left', framealpha=0)
    return figure


def risk_figure(calibration):
    "Share of wrong answers by share of utterances answered, the most confident first"
    figure = _figure(4.4, 3.8)
    ax = figure.subplots()
    ax.plot(calibration['coverage'], calibration['risk'], color='tab:blue', label=f'area {calibration["aurc"]:.3f}')
    ax.set_xlabel('coverage: share answered'), ax.set_ylabel('risk: share of answers that are wrong'), ax.set_xlim(0, 1.01)
    ax.set_ylim(0, max(0.05, 1.1*max(calibration['risk']))), ax.legend(fontsize=8, framealpha=0)
    return figure


def dimensions_figure(df, dimensions):
    "Predicted by true value of each of `dimensions`, a dot an utterance of the table of predictions `df`"
    figure = _figure(3.6*len(dimensions) + 0.4, 3.8)
    for ax, name in zip(figure.subplots(1, len(dimensions), squeeze=False)[0], dimensions, strict=True):
        true, said = df[name], df[f'predicted_{name}']
        ax.plot(true, said, ls='', marker='o', ms=3, alpha=0.4, color='tab:blue')
        ends = [true.min(), true.max()]
        ax.plot(ends, ends, color='grey', lw=0.8, ls=':')
        ax.set_xlabel(f'{name}, true'), ax.set_ylabel('predicted')
    return figure


def intervals_figure(rows, chance=None, label='UA'):
    "A dot and an interval a row: `rows` are `(name, score, [low, high] or None)`, drawn from the top down"
    figure = _figure(5.2, 0.7 + 0.3*len(rows))
    ax = figure.subplots()
    for y, (_, score, interval) in enumerate(rows):
        if interval: ax.plot(interval, [y, y], color='tab:blue', lw=2, alpha=0.5, solid_capstyle='round')
        ax.plot([score], [y], marker='o', ms=5, color='tab:blue')
    if chance: ax.axvline(chance, color='grey', lw=0.8, ls=':')
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows], parse_math=False)
    ax.set_ylim(len(rows) - 0.5, -0.5), ax.set_xlim(0, 1.01), ax.set_xlabel(label), ax.grid(axis='x', alpha=0.25)
    return figure


def ladder_figure(ladder):
    "UA by rung and system with its interval; rungs that leak are open dots"
    rungs, systems = ladder['rungs'], ladder['systems']
    figure = _figure(1.6 + 1.5*len(rungs), 3.8)
    ax = figure.subplots()
    for i, system in enumerate(systems):
        x = np.arange(len(rungs)) + 0.14*(i - (len(systems) - 1)/2)
        color = f'C{i}'
        for at, rung in zip(x, rungs, strict=True):
            s = rung['scores'][system]
            leaks = s.get('leaks') or s['audit']['leaks']
            ax.plot([at, at], s['intervals']['ua'], color=color, lw=2, alpha=0.5, solid_capstyle='round')
            ax.plot([at], [s['ua']], marker='o', ms=7, color=color, mfc='none' if leaks else color, mew=1.6)
        ax.plot(x, [r['scores'][system]['ua'] for r in rungs], color=color, lw=0.8, alpha=0.6, label=system)
    chance = 1/len(rungs[0]['scores'][systems[0]]['labels'])
    ax.axhline(chance, color='grey', lw=0.8, ls=':')
    ax.set_xticks(range(len(rungs)), [rung['rung'] for rung in rungs])
    ax.set_ylim(0, 1.02), ax.set_ylabel('UA, 95 % interval'), ax.legend(fontsize=8, loc='lower left', framealpha=0)
    ax.set_title('open: leaks, or the audit fails; dotted: chance', fontsize=9)
    return figure


def draw_ladder(ladder, path): ladder_figure(ladder).savefig(path, dpi=120)


def draw_lr_find(find, path):
    "What `lr_find` saw before a stage, and the rate that was taken"
    figure = _figure(4.6, 3.2)
    ax = figure.subplots()
    losses, lrs = np.array(find['losses'][5:-3] or [np.nan]), np.array(find['lrs'][5:-3] or [np.nan])
    ax.plot(lrs, losses)
    ax.axvline(find['suggested'], color='tab:red', lw=0.9, ls='--', label=f'taken: {find["suggested"]:.1e}')
    if np.isfinite(losses).any(): ax.set_ylim(np.nanmin(losses)*0.95, min(np.nanmax(losses), np.nanmin(losses)*3)*1.05)
    ax.set_xscale('log'), ax.set_xlabel('learning rate'), ax.set_ylabel('smoothed training loss'), ax.legend(fontsize=8)
    ax.set_title(f'lr_find before stage "{find["stage"]}"', fontsize=10)
    figure.savefig(path, dpi=120)


def draw_run(run, scores, finds=()):
    "The plots of a run folder: confusion, dimensions, reliability, risk and coverage, training, and one `lr_find_<stage>.png` a stage"
    plots = run.path/'plots'
    plots.mkdir(exist_ok=True)
    if run.labels: draw_confusion(scores, plots/'confusion.png')
    if (run.path/'history.csv').is_file(): draw_history(run.history, plots/'training.png', (scores.get('best') or {}).get('epoch'))
    if run.dimensions: dimensions_figure(run.predictions, run.dimensions).savefig(plots/'dimensions.png', dpi=120)
    if 'calibration' in scores:
        reliability_figure(scores['calibration']).savefig(plots/'reliability.png', dpi=120)
        risk_figure(scores['calibration']).savefig(plots/'risk_coverage.png', dpi=120)
    for find in finds: draw_lr_find(find, plots/f'lr_find_{find["stage"]}.png')


def draw_grid(prepared, path, per_label=4, columns=320):
    "A grid of spectrograms, one row a label, all at one scale of time and cut at `columns`; grey levels as in the files"
    from PIL import Image
    df = prepared.manifest
    df = df[df.audio != '']
    labels = sorted(df.label.unique())
    figure = _figure(2.5*per_label + 0.6, 1.75*len(labels) + 0.5)
    axes = np.atleast_2d(figure.subplots(len(labels), per_label, squeeze=False))
    step, config = prepared.config.hop_length/prepared.config.rate, prepared.config
    drawn, widest = [], 0
    for row, label in zip(axes, labels, strict=True):
        some = df[df.label == label]
        some = some.iloc[np.linspace(0, len(some) - 1, min(per_label, len(some))).round().astype(int)]
        for ax in row: ax.axis('off')
        for ax, item in zip(row, some.itertuples(), strict=False):
            with Image.open(prepared.png(item)) as image: x = np.asarray(image)[:, :columns]
            ax.axis('on')
            ax.imshow(x, aspect='auto', cmap='magma' if x.ndim == 2 else None, vmin=0, vmax=255, extent=(0, x.shape[1]*step, 0, x.shape[0]))
            ax.set_facecolor('black')
            drawn, widest = [*drawn, ax], max(widest, x.shape[1]*step)
            ax.set_title(item.id if len(item.id) < 28 else item.id[:25] + '...', fontsize=7, parse_math=False)
            ax.tick_params(labelsize=6)
        row[0].set_ylabel(label, fontsize=9, parse_math=False)
    for ax in drawn: ax.set_xlim(0, widest)
    bands = '' if config.kind == 'linear' else f', {config.bands} bands'
    figure.supxlabel(f'seconds · {config.kind}{bands}, {1000*step:g} ms a column', fontsize=8)
    figure.savefig(path, dpi=110)
