import click


@click.command('evaluate')
@click.argument('runs', nargs=-1, required=True, type=click.Path(), metavar='RUN...')
@click.option('--json', 'as_json', is_flag=True, help='The numbers as JSON on stdout.')
def command(runs, as_json):
    "Scores of the run folders RUN: tables here, metrics.json and plots in each folder, several runs side by side."
    import json

    from rich.console import Console

    from ..plots import draw_run
    from ..report import print_scores
    from ..runs import Run
    found = [Run.open(path) for path in runs]
    scores = [run.evaluate() for run in found]
    for run, s in zip(found, scores, strict=True): draw_run(run, s)
    if as_json: click.echo(json.dumps(scores, indent=1, ensure_ascii=False))
    else: print_scores(scores, [str(run.path) for run in found], Console())
