"""Tasks on tapes: what must be read, remembered and written, symbol by symbol.

`algorithmic` is the batched core of OpenAI Gym's algorithmic environments and `environments` their Gymnasium interfaces; `curriculum` makes their
inputs grow with success; `three_tapes` is the batched core of RL-NTM's tasks, with a memory tape between input and output, and
`three_tape_environments` their Gymnasium interfaces.
"""

from envs.tapes.algorithmic import Tape, TapeConfig
from envs.tapes.curriculum import Course, Curriculum, Promotion, Widening
from envs.tapes.environments import EXERCISES, TapeEnv, TapeVectorEnv
from envs.tapes.three_tape_environments import MACHINES, ThreeTapesEnv, ThreeTapesVectorEnv
from envs.tapes.three_tapes import Moves, ThreeTapes, ThreeTapesConfig, Write

__all__ = [
    "EXERCISES",
    "MACHINES",
    "Course",
    "Curriculum",
    "Moves",
    "Promotion",
    "Tape",
    "TapeConfig",
    "TapeEnv",
    "TapeVectorEnv",
    "ThreeTapes",
    "ThreeTapesConfig",
    "ThreeTapesEnv",
    "ThreeTapesVectorEnv",
    "Widening",
    "Write",
]
