"Numbers -> rich tables and PNG plots; draws, computes nothing"
import numpy as np

from .runs import protocol_line

WIDTH = 0.62  # inches a label takes in a confusion matrix


def _figure(width, height):
    "A figure of its own, on no shared pyplot state and without a display"
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


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
    split = scores['split']
    figure.suptitle(f'{scores["system"]} {_short(scores["arch"])} · '
                    f'{split["protocol"]}, fold {split["fold"]} of {split["n_folds"]} · n {scores["n"]} · '
                    f'WA {scores["wa"]:.3f} · UA {scores["ua"]:.3f}' + (' · LEAKS' if scores.get('leaks') else ''), fontsize=10)
    figure.savefig(path, dpi=120)


def draw_history(history, path, best=None):
    "Losses and scores by epoch; both losses and both scores are of train and valid, never of test"
    figure = _figure(8.4, 3.4)
    losses, scores = figure.subplots(1, 2)
    drawn = {losses: dict(train_loss='train loss', valid_loss='valid loss'), scores: dict(accuracy='valid WA', ua='valid UA')}
    head = (history['stage'] == 'head').sum()
    for ax, names in drawn.items():
        for name, label in names.items(): ax.plot(history['epoch'], history[name], marker='.', label=label)
        if 0 < head < len(history): ax.axvline(head + 0.5, color='grey', lw=0.8, ls=':', label='unfreeze')
        if best: ax.axvline(best, color='tab:green', lw=0.8, ls='--', label='kept epoch')
        ax.set_xlabel('epoch')
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize=8)
    losses.set_ylabel('loss'), scores.set_ylabel('score'), scores.set_ylim(0, 1.02)
    figure.savefig(path, dpi=120)


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
    "The plots of a run folder: `confusion.png`, `training.png`, and one `lr_find_<stage>.png` a stage"
    plots = run.path/'plots'
    plots.mkdir(exist_ok=True)
    draw_confusion(scores, plots/'confusion.png')
    if (run.path/'history.csv').is_file(): draw_history(run.history, plots/'training.png', (scores.get('best') or {}).get('epoch'))
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


def _short(arch): return '+'.join(part.rstrip('/').rsplit('/', 1)[-1] for part in str(arch).split('+'))


def class_table(scores):
    "Precision, recall, F1 and support by class and on average, as a rich table"
    from rich.table import Table
    from rich.text import Text
    table = Table(title=f'{scores["system"]} {_short(scores["arch"])}', title_justify='left')
    for name in ('label', 'precision', 'recall', 'F1', 'support'): table.add_column(name, justify='left' if name == 'label' else 'right')
    numbers = lambda row: [f'{row[name]:.3f}' for name in ('precision', 'recall', 'f1')]
    for label, row in scores['classes'].items(): table.add_row(Text(label), *numbers(row), str(row['support']))
    table.add_section()
    for name in ('macro', 'weighted'): table.add_row(f'{name} average', *numbers(scores[name]), str(scores['n']))
    return table


def confusion_table(scores):
    "The confusion matrix in counts, true labels down, as a rich table"
    from rich.table import Table
    from rich.text import Text
    table = Table(title='confusion: rows are true, columns predicted', title_justify='left')
    table.add_column('')
    labels, counts = scores['confusion']['labels'], scores['confusion']['counts']
    for label in labels: table.add_column(Text(label), justify='right')
    for label, row in zip(labels, counts, strict=True): table.add_row(Text(label), *map(str, row))
    return table


def runs_table(scores, names):
    "Several runs side by side: one row a run"
    from rich.table import Table
    from rich.text import Text
    table = Table(title='runs', title_justify='left')
    for name in ('run', 'system', 'protocol', 'fold'): table.add_column(name, overflow='fold')
    for name in ('n', 'WA', 'UA', 'macro F1', 'seconds'): table.add_column(name, justify='right')
    for name, s in zip(names, scores, strict=True):
        split, leaks = s['split'], ' LEAKS' if s.get('leaks') else ''
        table.add_row(Text(name), f'{s["system"]} {_short(s["arch"])}', split['protocol'] + leaks, f'{split["fold"]}/{split["n_folds"]}',
                      str(s['n']), f'{s["wa"]:.3f}', f'{s["ua"]:.3f}', f'{s["macro"]["f1"]:.3f}', f'{s["seconds"] or 0:.0f}')
    return table


def counts_table(df, column, most=30):
    "Utterances and minutes by value of `column` and label, as a rich table"
    from rich.table import Table
    from rich.text import Text
    labels = sorted(df.label.unique())
    table = Table(title=f'by {column}', title_justify='left')
    table.add_column(column)
    for name in (*(labels if column != 'label' else ()), 'utterances', 'minutes'): table.add_column(Text(name), justify='right')
    groups = list(df.groupby(column))
    for value, rows in groups[:most]:
        counts = [str(int((rows.label == label).sum())) for label in labels] if column != 'label' else []
        table.add_row(Text(str(value) or '(empty)'), *counts, str(len(rows)), f'{rows.duration.sum()/60:.1f}')
    if len(groups) > most: table.add_row(f'... and {len(groups) - most} more', *['']*(len(table.columns) - 1))
    return table


def print_scores(scores, names, console):
    "Protocol line and tables of each run, then all of them side by side"
    for name, s in zip(names, scores, strict=True):
        console.print(name, highlight=False, markup=False, style='bold')
        console.print(protocol_line(s), highlight=False, markup=False, style='dim' if not s.get('leaks') else 'red')
        console.print(class_table(s))
        console.print(confusion_table(s))
        console.print(f'WA (accuracy) {s["wa"]:.3f}   UA (mean recall over {s["ua_labels"]} labels) {s["ua"]:.3f}   '
                      f'macro F1 {s["macro"]["f1"]:.3f}\n', highlight=False)
    if len(scores) > 1: console.print(runs_table(scores, names))


def _several(values, most=12):
    names = sorted(set(values) - {''})
    return ' '.join(names[:most]) + (' ...' if len(names) > most else '')


def split_table(df, split):
    "Utterances, speakers, sessions, scripts and labels of each part of a split"
    from rich.table import Table
    from rich.text import Text
    table = Table(title=f'{split.protocol}, fold {split.fold} of {split.n_folds}, seed {split.seed}\n{split.sha256}', title_justify='left')
    for name in ('part', 'utterances', 'speakers', 'sessions', 'scripts', 'labels'): table.add_column(name, overflow='fold')
    for part in ('train', 'valid', 'test', 'unused'):
        rows = df[df.id.isin(list(getattr(split, part)))]
        labels = ', '.join(f'{label} {n}' for label, n in rows.label.value_counts().sort_index().items())
        table.add_row(part, str(len(rows)), *(Text(_several(rows[name])) for name in ('speaker', 'session', 'script')), Text(labels))
    if split.unused: table.caption = '\n'.join(f'unused: {reason}' for reason in sorted(set(split.unused.values())))
    return table


def show_prepared(prepared, png, console):
    "Print what a prepared folder holds, and draw some of its spectrograms into the file `png`"
    df = prepared.manifest
    for column in ('label', 'speaker', 'session'):
        if (df[column] != '').any(): console.print(counts_table(df, column))
    seconds = df.duration.dropna()
    if len(seconds):
        console.print(f'{len(df)} utterances, {seconds.sum()/3600:.2f} h; durations {seconds.min():.2f} to {seconds.max():.2f} s, '
                      f'median {seconds.median():.2f} s', highlight=False)
    if (df.audio != '').any():
        draw_grid(prepared, png)
        console.print(f'spectrograms: {png}', highlight=False, markup=False, soft_wrap=True)


def predictions_table(answers):
    "What was predicted for each utterance, with its probabilities"
    from rich.table import Table
    from rich.text import Text
    table = Table()
    for name in ('audio', 'text', 'emotion'): table.add_column(name, overflow='fold')
    for label in answers[0]['probabilities']: table.add_column(Text(label), justify='right')
    for answer in answers:
        said = (Text(str(answer['audio'] or '')), Text(answer['text'] or ''), Text(answer['label'], 'bold'))
        table.add_row(*said, *(f'{p:.3f}' for p in answer['probabilities'].values()))
    return table


def demo_table(rows):
    "The five systems of the demo, one row each; `rows`: name, scores, seconds"
    from rich.table import Table
    first = rows[0][1]
    table = Table(title='Five systems on a SYNTHETIC corpus (espeak-ng): the numbers say nothing about real emotion', title_justify='left')
    left = ('system', 'protocol')
    for name in ('system', 'WA', 'UA', 'protocol', 'seconds'): table.add_column(name, justify='left' if name in left else 'right')
    for name, s, seconds in rows:
        table.add_row(name, f'{s["wa"]:.3f}', f'{s["ua"]:.3f}', f'{s["split"]["protocol"]}, fold {s["split"]["fold"]}', f'{seconds:.0f}')
    table.caption = (f'{first["n"]} test utterances of speakers and scripts that no training utterance has; '
                     f'split {first["split"]["sha256"][:12]}')
    return table
