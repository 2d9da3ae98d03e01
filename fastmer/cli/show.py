import click


@click.command('show')
@click.argument('prepared', type=click.Path())
@click.option('--png', type=click.Path(), help='Where the grid of spectrograms goes.  [default: PREPARED/show.png]')
def command(prepared, png):
    "Counts by label, speaker and session, durations, and a grid of spectrograms of the folder PREPARED."
    from pathlib import Path

    from rich.console import Console

    from ..prepare import Prepared
    from ..report import show_prepared
    prepared = Prepared.open(prepared)
    show_prepared(prepared, Path(png) if png else prepared.path/'show.png', Console())
