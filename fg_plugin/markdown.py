"""Tables and numbers of the pages of results."""

import statistics
from collections.abc import Iterable, Sequence


def mean_and_std(values: Sequence[float], sign: str = '', digits: int = 2) -> str:
    """Return ``'<mean> ± <std>'`` of a sample, the mean alone of one value, and nothing of none.

    Args:
        values: The sample.
        sign: ``'+'`` to show the sign of a positive mean, too.
        digits: Digits behind the point.
    """
    if not values:
        return ''
    # Plus zero, so that nothing is not negative.
    mean = f'{round(statistics.fmean(values), digits) + 0.0:{sign}.{digits}f}'
    return f'{mean} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else mean


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)
