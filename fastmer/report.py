"Numbers -> rich tables; shows, computes nothing"
from .crossval import spread
from .plots import draw_grid, short
from .runs import GIVEN, ccc_value, few_leaks, protocol_line, protocol_name


def within(score, interval, sign='', digits=3):
    "`0.775 [0.701, 0.834]`"
    shown = f'{sign}.{digits}f'
    if interval is None: return f'{score:{shown}}'
    return f'{score:{shown}} [{interval[0]:{shown}}, {interval[1]:{shown}}]'


def p_value(p): return '' if p is None else f'{p:.3f}' if p >= 0.001 else '< 0.001'


def drawn(found):
    "What the intervals are over, in words"
    over, k = found['over'], found['groups']
    return f'{found.get("level", 0.95):.0%} intervals by bootstrap over {k} {over}s' + (
        '; for these speakers only, since they are one or not known' if over == 'utterance' else '; few, so they are wide' if k < 5 else '')


def class_table(scores):
    "Precision, recall, F1 and support by class and on average, as a rich table"
    from rich.table import Table
    from rich.text import Text
    table = Table(title=f'{scores["system"]} {short(scores["arch"])}', title_justify='left')
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


def calibration_line(c):
    return (f'calibration: ECE {c["ece"]:.3f} as given, {c["ece_calibrated"]:.3f} at temperature {c["temperature"]:.2f} '
            f'(fitted on {c["n_valid"]} utterances of valid); area under risk and coverage {c["aurc"]:.3f}')


def dimensions_table(scores):
    "Concordance correlation and error of each dimension, as a rich table"
    from rich.table import Table
    table = Table(title='dimensions', title_justify='left')
    for name in ('dimension', 'CCC', 'RMSE', 'n'): table.add_column(name, justify='left' if name == 'dimension' else 'right')
    for name, of in scores['dimensions'].items():
        table.add_row(name, ccc_within(of), 'not known' if of['rmse'] is None else f'{of["rmse"]:.3f}', str(of['n']))
    return table


def ccc_within(of): return within(of['ccc'], of['interval']) if of['ccc'] is not None else ccc_value(of)


def spread_line(scores):
    "Mean and standard deviation over folds, and over seeds where there are several"
    found, n = spread(scores), len(scores['split']['seeds'])
    line = lambda name: '   '.join(f'{title} {found[name][key][0]:.3f} ± {found[name][key][1]:.3f}'
                                   for title, key in (('WA', 'wa'), ('UA', 'ua'), ('macro F1', 'macro_f1')))
    more = f'\nover {n} seeds, mean ± sd: {line("seeds")}' if n > 1 else ''
    return f'over {len(scores["folds"])} folds, mean ± sd: {line("folds")}{more}'


def modality_table(scores):
    "What a fusion learner makes of recordings alone, transcripts alone and both, as a rich table"
    from rich.table import Table
    table = Table(title='by what is given', title_justify='left')
    table.add_column('')
    given = [name for name in GIVEN if name in scores['modalities']]
    for name in given: table.add_column(GIVEN[name], justify='right')
    for title, key, shown in (('WA', 'wa', '.3f'), ('UA', 'ua', '.3f'), ('n', 'n', 'd')):
        table.add_row(title, *(f'{scores["modalities"][name][key]:{shown}}' for name in given))
    return table


def runs_table(scores, names):
    "Several runs side by side: one row a run"
    from rich.table import Table
    from rich.text import Text
    table = Table(title='runs', title_justify='left')
    for name in ('run', 'system', 'protocol', 'fold'): table.add_column(name, overflow='fold')
    dimensions = list(dict.fromkeys(name for s in scores for name in s.get('dimensions', ())))
    for name in ('n', 'WA', 'UA', 'macro F1', *(f'CCC {name}' for name in dimensions), 'seconds'): table.add_column(name, justify='right')
    for name, s in zip(names, scores, strict=True):
        split, leaks = s['split'], ' LEAKS' if s.get('leaks') else ''
        found = s.get('dimensions', {})
        of_labels = (f'{s["wa"]:.3f}', within(s['ua'], s['intervals']['ua']), f'{s["macro"]["f1"]:.3f}') if s['labels'] else ['']*3
        numbers = (*of_labels, *(ccc_value(found[name]) if name in found else '' for name in dimensions), f'{s["seconds"] or 0:.0f}')
        table.add_row(Text(name), f'{s["system"]} {short(s["arch"])}', split['protocol'] + leaks, f'{split["fold"]}/{split["n_folds"]}',
                      str(s['n']), *numbers)
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


def labels_table(prepared):
    "What the codes of each corpus of a joined folder became, and how many utterances of each label it has, as a rich table"
    from rich.table import Table
    from rich.text import Text
    df, labels = prepared.manifest, prepared.labels
    table = Table(title='labels by corpus', title_justify='left')
    table.add_column('corpus')
    for label in labels: table.add_column(Text(label), justify='right')
    table.add_column('codes', overflow='fold')
    for corpus, codes in prepared.about['label_map'].items():
        counts = df.label[df.corpus == corpus].value_counts()
        shown = ', '.join(f'{code}={label}' for code, label in codes.items())
        table.add_row(Text(corpus), *(str(counts.get(label, 0)) for label in labels), Text(shown))
    return table


def print_scores(scores, names, console):
    "Protocol line and tables of each run, then all of them side by side"
    for name, s in zip(names, scores, strict=True):
        console.print(name, highlight=False, markup=False, style='bold')
        console.print(protocol_line(s), highlight=False, markup=False, style='dim' if not s.get('leaks') else 'red')
        if s['labels']: console.print(class_table(s), confusion_table(s), sep='\n')
        if 'dimensions' in s: console.print(dimensions_table(s))
        if 'modalities' in s: console.print(modality_table(s))
        i, wer = s['intervals'], f'   WER {s["wer"]:.3f}' if 'wer' in s else ''
        if s['labels']:
            console.print(f'WA (accuracy) {within(s["wa"], i["wa"])}   UA (mean recall over {s["ua_labels"]} labels) '
                          f'{within(s["ua"], i["ua"])}   macro F1 {within(s["macro"]["f1"], i["macro_f1"])}{wer}', highlight=False)
        console.print(f'({drawn(i)})', highlight=False)
        if 'calibration' in s: console.print(calibration_line(s['calibration']), highlight=False)
        if 'folds' in s and s['labels']: console.print(spread_line(s), highlight=False)
        console.print()
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
    labelled = 'label' in answers[0]
    for name in ('audio', 'text', *(['emotion'] if labelled else [])): table.add_column(name, overflow='fold')
    for name in (*answers[0].get('probabilities', ()), *answers[0].get('dimensions', ())): table.add_column(Text(name), justify='right')
    for answer in answers:
        said = (Text(str(answer['audio'] or '')), Text(answer['text'] or ''), *([Text(answer['label'], 'bold')] if labelled else []))
        numbers = (*answer.get('probabilities', {}).values(), *answer.get('dimensions', {}).values())
        table.add_row(*said, *(f'{number:.3f}' for number in numbers))
    return table


def demo_table(rows):
    "The five systems of the demo, one row each; `rows`: name, scores, seconds"
    from rich.table import Table
    first = rows[0][1]
    table = Table(title='Five systems on a SYNTHETIC corpus (espeak-ng): the numbers say nothing about real emotion', title_justify='left')
    for name in ('system', 'WA', 'UA', 'seconds'): table.add_column(name, justify='left' if name == 'system' else 'right', no_wrap=True)
    for name, s, seconds in rows:
        table.add_row(name, f'{s["wa"]:.3f}', within(s['ua'], s['intervals']['ua']), f'{seconds:.0f}')
    split = first['split']
    table.caption = (f'protocol {protocol_name(split)}, split {split["sha256"][:12]}: {first["n"]} test utterances of speakers and scripts '
                     f'that no training utterance has\n{drawn(first["intervals"])}')
    return table


STYLES = dict(leak='bold red', warning='yellow', note='dim', ok='green')


def audit_table(found):
    "The findings of an audit, worst first, as a rich table"
    from rich.table import Table
    from rich.text import Text
    k, which = found['n_folds'], found['folds']
    folds = f'fold {which[0]} of {k}' if len(which) < k else f'all {k} folds'
    table = Table(title=f'audit of {found["protocol"]}, {folds}, seed {found["seed"]} · {found["corpus"]}, n {found["utterances"]}',
                  title_justify='left')
    for name in ('severity', 'what', 'found'): table.add_column(name, overflow='fold')
    for f in found['findings']: table.add_row(Text(f['severity'], STYLES[f['severity']]), f['check'], Text(f['says']))
    table.caption = ('the protocol is what its name promises' if found['passes'] else
                     f'the {found["protocol"]} protocol is NOT what a test score promises: {", ".join(found["leaks"])} on both sides')
    return table


def comparison_table(found):
    "Two runs on the same utterances, as a rich table"
    from rich.table import Table
    table = Table(title=f'A {found["a"]}\nB {found["b"]}\n{protocol_name(found["split"])} · {found["n"]} utterances', title_justify='left')
    for name in ('score', 'A', 'B', 'B - A', 'p'): table.add_column(name, justify='left' if name == 'score' else 'right')
    for name, s in found['scores'].items():
        table.add_row(SCORE_NAMES[name], f'{s["a"]:.3f}', f'{s["b"]:.3f}', within(s['difference'], s['interval'], '+'), p_value(s['p']))
    s = found['scores']['wa']
    table.caption = (f'{drawn(s)}; p: swapping the runs within {s["over"]}s\nA alone right on {s["mcnemar"]["only_a"]}, B alone on '
                     f'{s["mcnemar"]["only_b"]}: McNemar p {s["mcnemar"]["p"]:.3f} (exact; takes utterances for independent)')
    if not found['same_split']: table.caption += '\nDIFFERENT SPLITS: this difference is of no protocol'
    for leak in few_leaks(found['leaks']): table.caption += f'\nLEAKS: {leak}'
    return table


SCORE_NAMES = dict(wa='WA', ua='UA', macro_f1='macro F1')


def flips_table(found, most=30):
    "Utterances that one of two runs alone gets right"
    from rich.table import Table
    from rich.text import Text
    table = Table(title=f'{len(found["flips"])} utterances that one alone gets right', title_justify='left')
    for name in ('id', 'label', 'A', 'B'): table.add_column(name, overflow='fold')
    for row in found['flips'][:most]:
        table.add_row(Text(row['id']), Text(row['label']), *(Text(row[x], 'green' if row[x] == row['label'] else 'red') for x in 'ab'))
    if len(found['flips']) > most: table.add_row(f'... and {len(found["flips"]) - most} more', '', '', '')
    return table


WAYS = ('audio', 'text', 'late', 'fusion')


def gain_table(found):
    "Fusion beside its halves and their calibrated mean, and its gain, as a rich table"
    from rich.table import Table
    better, more = found['better'], lambda gain: within(gain['difference'], gain['interval'], '+', 2)
    table = Table(title=f'fusion gain · {protocol_name(found["split"])}', title_justify='left')
    for name in ('recall', *WAYS, f'over {better}', 'over late'):
        table.add_column(name, justify='left' if name == 'recall' else 'right', no_wrap=name == 'recall')
    for row in found['rows']:
        table.add_row(f'[bold]{row["part"]}[/] ({row["n"]})')
        for score in row['over_better']:
            of = row['ua'] if score == 'ua' else row['recall'][score.partition(':')[2]]
            table.add_row('mean (UA)' if score == 'ua' else score.partition(':')[2], *(f'{of[way]:.2f}' for way in WAYS),
                          more(row['over_better'][score]), more(row['over_late'][score]))
        table.add_section()
    ua = found['rows'][0]
    p = {name: p_value(ua[name]['ua']['p']) for name in ('over_better', 'over_late')}
    table.caption = (f'{better} is the better half on valid; late is the mean of both, each at the temperature fitted on valid\n'
                     f'UA of all: p {p["over_better"]} over {better}, {p["over_late"]} over late\n'
                     + drawn(ua['over_late']['ua']))
    if 'pseudo-paired' in found['corpus']:
        table.caption += '\npseudo-paired corpus: words and voice are independent given the label, so this says nothing about emotion'
    if found['note']: table.caption += f'\n{found["note"]}'
    for leak in few_leaks(found['leaks']): table.caption += f'\nLEAKS: {leak}'
    return table


def folds_table(scores):
    "The folds of a pooled run, one row each"
    from rich.table import Table
    table = Table(title=f'{scores["system"]} {short(scores["arch"])}, fold by fold', title_justify='left')
    found = [f'ccc_{name}' for name in scores.get('dimensions', ())]
    for name in ('seed', 'fold', 'n', 'WA', 'UA', 'macro F1', *(f'CCC {name[4:]}' for name in found), 'seconds'):
        table.add_column(name, justify='right')
    for row in scores['folds']:
        numbers = ('' if row.get(name) is None else f'{row[name]:.3f}' for name in ('wa', 'ua', 'macro_f1', *found))
        table.add_row(str(row['seed']), str(row['fold']), str(row['n']), *numbers, f'{row["seconds"]:.0f}')
    return table


def pooled_table(scores):
    "The systems of a cross-validation, pooled and fold by fold, as a rich table"
    from rich.table import Table
    first = scores[0]
    table = Table(title=f'{protocol_name(first["split"])} · {first["corpus"]} · n {first["n"]}', title_justify='left')
    dimensions = list(dict.fromkeys(name for s in scores for name in s.get('dimensions', ())))
    for name in ('system', 'pooled WA', 'pooled UA', 'pooled macro F1', 'UA by fold, mean ± sd',
                 *(f'pooled CCC {name}' for name in dimensions)):
        table.add_column(name, justify='left' if name == 'system' else 'right')
    for s in scores:
        i, of_labels = s['intervals'], ['']*4
        if s['labels']:
            mean, sd = spread(s)['folds']['ua']
            of_labels = (within(s['wa'], i['wa']), within(s['ua'], i['ua']), within(s['macro']['f1'], i['macro_f1']),
                         f'{mean:.3f} ± {sd:.3f}')
        table.add_row(f'{s["system"]} {short(s["arch"])}', *of_labels,
                      *(ccc_within(s['dimensions'][name]) if name in s.get('dimensions', ()) else '' for name in dimensions))
    table.caption = drawn(first['intervals'])
    return table


def ladder_notes(ladder):
    "What the numbers of a ladder are over, in two sentences"
    over = [rung['scores'][ladder['systems'][0]]['intervals'] for rung in ladder['rungs']]
    return [f'inflation: above {ladder["honest"]}, on the utterances that both have tested',
            f'95% intervals by bootstrap over {over[0]["over"]}s, {", ".join(str(i["groups"]) for i in over)} of them by rung']


def ladder_table(ladder):
    "The rungs of a ladder by system, with the inflation against the strictest one, as a rich table"
    from rich.table import Table
    honest = ladder['rungs'][-1]
    archs = ', '.join(f'{system} {short(s["arch"])}' for system, s in honest['scores'].items())
    table = Table(title=f'leakage ladder · {archs} · {ladder["corpus"]}', title_justify='left')
    for name in ('protocol', 'system', 'n', 'UA', 'inflation'): table.add_column(name, no_wrap=True)
    said = ladder_notes(ladder)
    for rung in ladder['rungs']:
        for system, s in rung['scores'].items():
            more = rung['inflation'].get(system)
            table.add_row(rung['rung'], system, str(s['n']), within(s['ua'], s['intervals']['ua'], digits=2),
                          within(more['difference'], more['interval'], '+', 2) if more else '')
        table.add_section()
        leaks = few_leaks(list(dict.fromkeys(leak for s in rung['scores'].values() for leak in s['leaks'])), 2)
        if not s['audit']['passes']: leaks = [f'{", ".join(s["audit"]["leaks"])} on both sides', *leaks]
        if leaks: said.append(f'[red]{rung["rung"]} LEAKS: {"; ".join(leaks)}[/]')
    table.caption = '\n'.join([*said, *(f'{name} left out: {why}' for name, why in ladder['left_out'].items())])
    return table
