import click

from .options import protocol


@click.command('split')
@click.argument('prepared', type=click.Path())
@protocol()
@click.option('--json', 'as_json', is_flag=True, help='The ids of each part, as JSON.')
def command(prepared, protocol, fold, folds, seed, train_corpus, test_corpus, as_json):
    "Who would be trained on, watched and tested: the split of PREPARED under a protocol."
    import json
    from dataclasses import asdict

    from rich.console import Console

    from ..prepare import Prepared
    from ..report import split_table
    from ..splits import split
    manifest = Prepared.open(prepared).manifest
    found = split(manifest, protocol, fold, seed, folds, train_corpus, test_corpus)
    if as_json: click.echo(json.dumps(asdict(found) | dict(sha256=found.sha256), indent=1))
    else: Console().print(split_table(manifest, found))
