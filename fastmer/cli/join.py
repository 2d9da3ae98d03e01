import click


@click.command('join')
@click.argument('folders', nargs=-1, required=True, type=click.Path(), metavar='PREPARED...')
@click.argument('out', type=click.Path())
def command(folders, out):
    """Join prepared folders PREPARED of several corpora into the folder OUT, for training on one and testing on another.

    \b
    fastmer join prepared/emodb prepared/crema-d prepared/both
    fastmer train-audio prepared/both --train-corpus crema-d --test-corpus emodb
    fastmer cross-validate prepared/both --protocol corpus

    The folders must have been prepared with the same spectrogram settings; --labels or --map of fastmer prepare bring them to one label
    set.
    """
    from rich.console import Console

    from ..join import join_prepared
    from ..report import labels_table
    made = join_prepared(folders, out)
    Console().print(labels_table(made))
    click.echo(f'{made.about["utterances"]} utterances of {len(folders)} corpora -> {made.path}')
