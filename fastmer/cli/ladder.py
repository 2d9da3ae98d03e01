import click

from .options import PASS_ON, several, training_settings


@click.command('ladder', context_settings=PASS_ON)
@click.argument('prepared', type=click.Path())
@click.option('--rung', 'rungs', multiple=True,
              help='report, random, speaker, session or session+script; may be given again.  [default: all]')
@click.option('--max-folds', type=click.IntRange(min=1), help='Train only so many folds a rung.')
@several
def command(prepared, rungs, max_folds, system, audio, text, out, overwrite, folds, seeds, jobs, more):
    """The leakage ladder: one system under protocols that let less and less through, and how much that inflates its score.

    \b
    fastmer ladder prepared/emodb --arch alexnet --epochs 10 --jobs 2
    fastmer ladder prepared/iemocap --system fusion --audio arch=resnet34 --text arch=bert-base-uncased

    The rung `report` leaks on purpose: the epoch is chosen on the test part, and fusion draws a new split whose test utterances its
    encoders have learned. Other options are those of train-audio, train-text or train-fusion. Run again what was stopped: it goes on.
    """
    from pathlib import Path

    from rich.console import Console

    from ..ladder import RUNGS, leakage_ladder
    from ..plots import draw_ladder
    from ..prepare import Prepared
    from ..report import ladder_table
    settings = training_settings(system, audio, text, more)
    prepared = Prepared.open(prepared)
    out = Path(out) if out else Path('runs')/f'{prepared.path.resolve().name}-{system}-ladder'
    found = leakage_ladder(prepared, system, out, rungs or RUNGS, folds or 5, max_folds, seeds, jobs, settings, overwrite, click.echo)
    draw_ladder(found, out/'ladder.png')
    Console().print(ladder_table(found))
    click.echo(f'-> {out}')
