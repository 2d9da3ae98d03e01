import click


@click.command('demo')
@click.option('--out', type=click.Path(), default='demo-out', show_default=True, help='Where prepared folder and runs go; made anew.')
def command(out):
    "Train all five systems on the bundled synthetic corpus: minutes, no network, no downloads."
    from rich.console import Console

    from ..demo import run_demo
    from ..report import demo_table
    rows = run_demo(out, say=click.echo)
    Console().print(demo_table(rows))
