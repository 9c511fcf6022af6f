"""Where backbones come from. Heavy: imports Keras.

A source is a module with one function, `build(spec, size, home)`, that gives a `Backbone`. The
catalogue's networks come from `keras_applications` (and the built-in one), all others from the
prefix of their name: "run:ID" is the backbone of a finished run.
"""
