import click


@click.command('check')
@click.argument('paths', nargs=-1, required=True, metavar='PATH...', type=click.Path())
@click.option('--jobs', type=click.IntRange(min=1), help='Processes.  [default: all cores]')
@click.option('--json', 'as_json', is_flag=True, help='One JSON object a file on stdout, a line each.')
def command(paths, jobs, as_json):
    """What sound files hold and what is wrong with them: PATHs are files, or folders with all that is in them.

    \b
    fastmer check recordings
    fastmer check a.wav b.mp3 --json

    Cut off, clipped, silent, upside down, off centre, no numbers, misnamed, too short, below 8 kHz. The exit code is 1 where a file cannot
    be decoded.
    """
    import json

    from rich.console import Console

    from ..check import check_audio, check_table
    from .options import bar
    with bar('listening') as progress: found = check_audio(paths, jobs, progress)
    if as_json:
        for about in found: click.echo(json.dumps(about, ensure_ascii=False))
    else: Console().print(check_table(found))
    if any(about['error'] for about in found): raise click.exceptions.Exit(1)
