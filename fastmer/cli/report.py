import click


@click.command('report')
@click.argument('runs', nargs=-1, required=True, type=click.Path(), metavar='RUN...')
@click.option('--html', type=click.Path(), default='report.html', show_default=True, help='The page to write.')
@click.option('--title', help='Its title.  [default: system and corpus]')
@click.option('--errors', type=click.IntRange(min=0), default=12, show_default=True, help='How many of the worst errors to show.')
@click.option('--no-audio', is_flag=True, help='Embed no recordings: many corpora may not be passed on.')
def command(runs, html, title, errors, no_audio):
    """Runs as one self-contained HTML page: scores and their protocol, calibration, groups, worst errors to hear, audit.

    \b
    fastmer report runs/audio --html audio.html
    fastmer report runs/iemocap-fusion-session-cross-validation --no-audio

    RUN: a run folder, a cross-validation or one system of it, a ladder, or what fastmer tune left behind. The page needs no network and no
    other file.
    """
    from ..html import write_report
    page = write_report(runs, html, title, errors, not no_audio)
    click.echo(f'{page} ({page.stat().st_size/1e6:.1f} MB)')
