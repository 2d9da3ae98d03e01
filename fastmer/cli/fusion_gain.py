import click


@click.command('fusion-gain')
@click.argument('fusion', type=click.Path())
@click.option('--audio', type=click.Path(), help='Its audio run.  [default: where it was when fusion was trained]')
@click.option('--text', type=click.Path(), help='Its text run.  [default: where it was when fusion was trained]')
@click.option('--allow-different-splits', is_flag=True, help='Go on with runs of other splits, though the gain is then of no protocol.')
@click.option('--json', 'as_json', is_flag=True, help='The numbers as JSON on stdout.')
def command(fusion, audio, text, allow_different_splits, as_json):
    """Does the run FUSION beat its better half, and the calibrated mean of its halves?

    Overall and by label, and for utterances whose script was not trained on where the corpus has scripts. FUSION is a run folder, or the
    fusion folder of a cross-validation.
    """
    import json

    from rich.console import Console

    from ..compare import fusion_gain
    from ..report import gain_table
    found = fusion_gain(fusion, audio, text, allow_different_splits)
    if as_json: click.echo(json.dumps(found, indent=1, ensure_ascii=False))
    else: Console().print(gain_table(found))
