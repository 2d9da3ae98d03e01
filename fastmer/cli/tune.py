import click

from .options import PASS_ON, protocol


@click.command('tune', context_settings=PASS_ON)
@click.argument('prepared', type=click.Path())
@click.option('--system', type=click.Choice(['audio', 'text', 'fusion']), default='audio', show_default=True, help='What to train.')
@click.option('--audio', type=click.Path(), help='fusion: run folder or learner.pkl of train-audio.')
@click.option('--text', type=click.Path(), help='fusion: run folder or learner.pkl of train-text.')
@protocol(default=None, fold=None, seed=None)
@click.option('--trials', type=click.IntRange(min=1), default=20, show_default=True, help='In all, those that --out holds counted.')
@click.option('--search', multiple=True, metavar='NAME=LOW..HIGH|A,B,C',
              help='Search this option too, or otherwise; may be given again.')
@click.option('--objective', type=click.Choice(['ua', 'loss']), default='ua', show_default=True,
              help='Of valid, at the epoch kept; of trials with the same UA, the one of lower loss.')
@click.option('--out', type=click.Path(), help='Where everything goes.  [default: runs/<what is trained>-tune]')
@click.option('--overwrite', is_flag=True, help='Delete the search that --out holds, and begin anew.')
@click.argument('more', nargs=-1, type=click.UNPROCESSED, metavar='[OPTIONS OF train-SYSTEM]')
def command(prepared, more, **asked):
    """Search the settings of train-audio, train-text or train-fusion with Optuna, on valid alone.

    \b
    fastmer tune prepared/emodb --system audio --arch alexnet --protocol speaker --fold 1 --trials 20 --out runs/tune
    fastmer tune prepared/emodb --arch resnet34 --epochs 10 --search lr=1e-4..1e-2 --search bs=8,16,32
    fastmer tune prepared/iemocap --system fusion --audio runs/resnet34 --text runs/bert

    Other options are those of train-SYSTEM, the same in every trial, and are not searched then. The first trial has the recipe's own
    settings for what is searched. A range whose ends are tenfold apart is searched by its logarithm. The split is speaker, fold 1, seed 0
    unless given; of fusion, its audio learner's. No trial sees the test part: train with the command that is printed at the end to get a
    score. Run again what was stopped: finished trials are kept; fastmer report OUT shows them all.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..tune import OWN, ranked, searched, tune_settings
    found, console = tune_settings(prepared, settings=more, say=click.echo, **asked), Console()
    table = Table(title=f'best of {found["trials"]} trials on valid, {found["failed"]} failed', title_justify='left')
    names = searched(found['records'])
    for name in ('trial', 'valid UA', 'loss', 'epoch', *names): table.add_column(name, justify='right', overflow='fold')
    for r in [r for r in ranked(found['records']) if r['same_as'] is None][:10]:
        numbers = (str(r['trial']), f'{r["ua"]:.3f}', f'{r["loss"]:.3f}', str(r['epoch'] or ''))
        table.add_row(*numbers, *(Text(r['settings'].get(name, 'default')) for name in names))
    first = found['records'][0]
    table.caption = f'trial 0, {OWN}: ' + (f'valid UA {first["ua"]:.3f}, loss {first["loss"]:.3f}' if not first['error'] else 'failed')
    console.print(table)
    console.print(found['note'][0].upper() + found['note'][1:] + ':', style='yellow', highlight=False)
    click.echo(found['command'])
