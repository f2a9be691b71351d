"""How far the estimate of a training's memory is from what it takes."""
