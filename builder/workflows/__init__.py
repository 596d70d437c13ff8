"""One short function a command; each reads like the picture in the README.

Recording and choices go in on the left, effects happen in ``edges``, a :class:`~builder.session.Result` comes out.
A module for each kind of thing that commands are about: the machine, models, images, jobs.
"""
