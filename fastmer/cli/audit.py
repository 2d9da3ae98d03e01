import click

from .options import protocol


@click.command('audit')
@click.argument('prepared', type=click.Path())
@protocol(fold=None)
@click.option('--audio/--no-audio', default=True, show_default=True, help='Listen to the recordings; without, manifest and words alone.')
@click.option('--jobs', type=click.IntRange(min=1), help='Processes.  [default: all cores]')
@click.option('--json', 'as_json', is_flag=True, help='The findings as JSON on stdout.')
def command(prepared, protocol, fold, folds, seed, train_corpus, test_corpus, audio, jobs, as_json):
    """What leaks from training to test under a protocol, in all its folds or in --fold.

    \b
    fastmer audit prepared/emodb --protocol speaker
    fastmer audit prepared/iemocap --protocol session+script --fold 1 --json

    Speakers, sessions, dialogues, scripts, words, recordings and pictures that stand on both sides, one voice under two names, and whether
    the label can be told from duration, loudness or file format alone. The exit code is 1 where the protocol is not what its name promises.
    """
    import json

    from rich.console import Console

    from ..audit import audit_protocol
    from ..report import audit_table
    from .options import bar
    with bar('listening') as progress: \
        found = audit_protocol(prepared, protocol, fold, seed, folds, audio, jobs, progress, train_corpus, test_corpus)
    if as_json: click.echo(json.dumps(found, indent=1, ensure_ascii=False))
    else: Console().print(audit_table(found))
    if not found['passes']: raise click.exceptions.Exit(1)
