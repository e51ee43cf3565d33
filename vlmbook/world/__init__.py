"""A small rendered world whose truth is known."""

from vlmbook.world.placement import PlacementError
from vlmbook.world.render import View, render
from vlmbook.world.scene import Camera, Light, Object, Plate, Scene
from vlmbook.world.splits import SPLITS, sample, stream
