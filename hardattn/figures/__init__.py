"""Pictures of attention: where it looked, what it saw, what it then believed.

Every figure is an array [height, width, 3] of bytes, so that it can go to a file or to TensorBoard alike; an animation is a
list of them. Figures take tensors, not tasks: `Looks` gathers what was looked at. A glimpse task and a hard agent give

    trace = agent.answer(question).trace
    glimpses = question.look(trace.gaze.transpose(0, 1)).transpose(0, 1)
    looks = Looks(question.image, glimpses, trace.gaze, question.eye, trace.belief, target)
    save_png(path, glimpse_paths(looks))
"""

from hardattn.figures.animation import animate
from hardattn.figures.charts import Bar, Curve, Dot, error_bars, growth, learning_curves, scatter
from hardattn.figures.files import add_animation, add_figure, gif_bytes, png_bytes, save_gif, save_png
from hardattn.figures.games import film, film_strip, head_paths
from hardattn.figures.heat import density, heat_map
from hardattn.figures.maps import attention_maps, windows
from hardattn.figures.memory import memory_use
from hardattn.figures.seen import Looks, Seen, reconstruct
from hardattn.figures.sheets import glimpse_paths, reconstructions
from hardattn.figures.stories import story_hops

__all__ = [
    "Bar",
    "Curve",
    "Dot",
    "Looks",
    "Seen",
    "add_animation",
    "add_figure",
    "animate",
    "attention_maps",
    "density",
    "error_bars",
    "film",
    "film_strip",
    "gif_bytes",
    "glimpse_paths",
    "growth",
    "head_paths",
    "heat_map",
    "learning_curves",
    "memory_use",
    "png_bytes",
    "reconstruct",
    "reconstructions",
    "save_gif",
    "save_png",
    "scatter",
    "story_hops",
    "windows",
]
