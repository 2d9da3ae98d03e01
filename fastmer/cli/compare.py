import click


@click.command('compare')
@click.argument('run_a', type=click.Path())
@click.argument('run_b', type=click.Path())
@click.option('--allow-different-splits', is_flag=True, help='Compare on what both predict, though it is a number of no protocol.')
@click.option('--json', 'as_json', is_flag=True, help='The numbers and all flips as JSON on stdout.')
def command(run_a, run_b, allow_different_splits, as_json):
    """Is RUN_B better than RUN_A? Two run folders, or systems of a cross-validation, on the same utterances.

    Differences with 95 % intervals by bootstrap over speakers, the p of a permutation test, McNemar's test, and which utterances flipped.
    """
    import json

    from rich.console import Console

    from ..compare import compare_runs
    from ..report import comparison_table, flips_table
    found = compare_runs(run_a, run_b, allow_different_splits)
    if as_json: click.echo(json.dumps(found, indent=1, ensure_ascii=False))
    else: Console().print(comparison_table(found), flips_table(found), sep='\n')
