import click

from .options import PASS_ON, several, training_settings


@click.command('cross-validate', context_settings=PASS_ON)
@click.argument('prepared', type=click.Path())
@click.option('--protocol', default='speaker', show_default=True, help='random, speaker, session, session+script or part.')
@click.option('--only', type=int, multiple=True, metavar='FOLD', help='Train this fold; may be given again.  [default: all]')
@several
def command(prepared, protocol, only, system, audio, text, out, overwrite, folds, seeds, jobs, more):
    """Train and test on every fold of a protocol, and pool the predictions.

    \b
    fastmer cross-validate prepared/emodb --system audio --protocol speaker --arch alexnet --epochs 20 --jobs 2
    fastmer cross-validate prepared/iemocap --system fusion --protocol session+script --audio arch=resnet34 --text arch=bert-base-uncased

    Other options are those of train-audio, train-text or train-fusion, whichever --system names. Run again what was stopped: finished
    trainings are kept. Each system's folder in --out is a run of its own: fastmer evaluate, compare and report read it.
    """
    from rich.console import Console

    from ..crossval import cross_validate
    from ..report import folds_table, pooled_table
    from ..runs import protocol_line
    settings = training_settings(system, audio, text, more)
    pooled = cross_validate(prepared, system, out, protocol, folds, seeds, only, jobs, settings, overwrite, click.echo)
    console, scores = Console(), [run.evaluate() for run in pooled.values()]
    for s in scores: console.print(folds_table(s))
    console.print(protocol_line(scores[-1]), highlight=False, markup=False, style='red' if scores[-1]['audit']['leaks'] else 'dim')
    console.print(pooled_table(scores))
