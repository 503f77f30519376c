"""Say what this machine and these directories allow, and what arsync will therefore use.

`examine` collects it, `Doctor.to_json` is for machines, `render` for people.
"""

from arsync.doctor.examine import Doctor, Engine, Place, examine
from arsync.doctor.system import System
from arsync.doctor.text import render

__all__ = ["Doctor", "Engine", "Place", "System", "examine", "render"]
