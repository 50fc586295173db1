"""The pictures of a glimpse agent, for TensorBoard and for files."""


def draw(*a, **k):
    pass
