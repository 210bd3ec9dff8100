"""The parts of an analysis."""

PARTS = ('tsne', 'swap', 'variance', 'filters')
