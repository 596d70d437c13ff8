#!/usr/bin/env python3
"""The launcher: makes .venv beside itself on first use, then hands over to builder.cli.

Standard library only, and old syntax, so that an old Python can say what is wrong with it.
"""

import os
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "ready")
REQUIREMENTS = os.path.join(ROOT, "requirements", "builder.txt")


def main():
    if sys.version_info < (3, 10):
        stop("Python %d.%d is too old" % sys.version_info[:2], "python3.11 build.py (any of 3.10 to 3.13)")
    if sys.platform == "win32":
        stop("Windows is not supported as it is", "wsl --install, then run this inside WSL2")
    if os.path.realpath(sys.prefix) != os.path.realpath(VENV):
        python = os.path.join(VENV, "bin", "python")
        if not up_to_date():
            from builder import launcher  # the slow path; no third-party import in it

            launcher.make(ROOT)
        os.execv(python, [python, os.path.join(ROOT, "build.py"), *sys.argv[1:]])
    if sys.argv[1:2] == ["test"]:
        from builder import launcher

        sys.exit(launcher.test(ROOT, sys.argv[2:]))
    from builder.cli import main as run

    sys.exit(run())


def up_to_date():
    """The stamp was written for these requirements, and its Python is still there."""
    try:
        with open(STAMP) as stamp, open(REQUIREMENTS) as wanted:
            return stamp.read() == wanted.read() and os.path.exists(os.path.join(VENV, "bin", "python"))
    except OSError:
        return False


def stop(what, following):
    sys.stderr.write("error: %s\n  next: %s\n" % (what, following))
    sys.exit(3)


if __name__ == "__main__":
    main()
