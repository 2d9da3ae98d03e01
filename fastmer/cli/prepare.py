import click


def _columns(ctx, param, values):
    pairs = [value.partition('=') for value in values]
    for name, equals, _ in pairs:
        if not (name and equals): raise click.BadParameter(f'{name!r} is no NAME=COLUMN pair, such as label=emotion', ctx, param)
    return {name.strip(): column.strip() for name, _, column in pairs}


@click.command('prepare', short_help='Corpus on disk -> spectrograms and a manifest.')
@click.argument('corpus')
@click.argument('root', type=click.Path())
@click.argument('out', type=click.Path())
@click.option('--labels', help='Label set (4, 5, 6, all) or labels to keep: angry,sad.  [default: 4 for iemocap, else all]')
@click.option('--map', 'mapping', help='Codes to labels, laid over the set: exc=happy,fru=angry.')
@click.option('--column', 'columns', multiple=True, callback=_columns, metavar='NAME=COLUMN',
              help='table: which of its columns holds what, such as --column label=emotion --column audio=wav.')
@click.option('--audio-root', type=click.Path(), help='table: the folder that paths are relative to.  [default: the table\'s own]')
@click.option('--delimiter', help='table: what stands between its cells, or tab.  [default: guessed]')
@click.option('--sheet', help='table: the sheet of an .xlsx file.  [default: the first]')
@click.option('--corpus-name', help='table: what to call the corpus in the manifest.')
@click.option('--spectrogram', 'recipe', default='default', show_default=True, help='default, report-alexnet or report-resnet34.')
@click.option('--kind', help='mel, linear or mfcc.')
@click.option('--channels', help='repeat, or deltas: signal, delta and delta-delta as R, G, B.')
@click.option('--rate', type=int, help='Hz that recordings are brought to.')
@click.option('--window', type=float, help='Seconds of a window.')
@click.option('--step', type=float, help='Seconds from column to column.')
@click.option('--n-fft', type=int, help='Samples of the transform.')
@click.option('--bands', type=int, help='Mel bands or coefficients.')
@click.option('--fmin', type=float, help='Hz.')
@click.option('--fmax', type=float, help='Hz.')
@click.option('--db-range', type=float, help='dB below the reference that are told apart.')
@click.option('--reference', help='What 0 dB is: clip, its own maximum; or full-scale, which keeps how loud clips are.')
@click.option('--trim-db', type=float, help='Cut off ends that are so many dB below the loudest frame; 0 keeps them.')
@click.option('--jobs', type=click.IntRange(min=1), help='Processes.  [default: all cores]')
@click.option('--cluster', help='Draw on this cluster, dask://host:port, whose workers must see the same files.')
def command(corpus, root, out, labels, mapping, columns, audio_root, delimiter, sheet, corpus_name, recipe, jobs, cluster, **settings):
    """Read CORPUS under ROOT and write spectrograms and a manifest to OUT.

    CORPUS: iemocap, emodb, crema-d, emovo, ravdess, savee, tess, meld, shemo, esd, msp-podcast, jl-corpus, table or folders.

    \b
    fastmer prepare iemocap IEMOCAP_full_release prepared/iemocap
    fastmer prepare table utterances.csv prepared/mine --column label=emotion --column audio=wav

    A second run does only what is missing, or was made with other settings. What is left out stands in OUT/skipped.csv,
    what has something wrong with its sound (clipped, silent, DC offset, ...) but was drawn in OUT/warnings.csv.
    """
    from ..errors import FastmerError
    from ..prepare import prepare_corpus
    from ..spectrogram import SpectrogramConfig
    from .options import bar
    of_table = dict(columns=columns, audio_root=audio_root, delimiter=delimiter, sheet=sheet, corpus_name=corpus_name)
    options = {name: value for name, value in of_table.items() if value}
    if options and corpus != 'table':
        raise FastmerError(f'--{next(iter(options)).replace("_", "-").replace("columns", "column")} is for table only')
    config = SpectrogramConfig.named(recipe, **settings)
    with bar('drawing') as progress: made = prepare_corpus(corpus, root, out, labels, mapping, config, jobs, progress, cluster, **options)
    about = made.about
    for note in about['notes']: click.echo(f'note: {note}')
    click.echo('labels: ' + ', '.join(f'{label} {n}' for label, n in about['counts'].items()))
    if about['warned']: click.echo(f'warnings: {about["warned"]} (clipped, silent and the like: see {made.path/"warnings.csv"})')
    click.echo(f'{about["utterances"]} utterances, {about["drawn"]} drawn now, {about["skipped"]} left out'
               + (f', of which {about["undecodable"]} could not be decoded' if about['undecodable'] else '')
               + (f' (see {made.path/"skipped.csv"})' if about['skipped'] else '') + f' -> {made.path}')
