#!/usr/bin/env python3
"""The launcher: makes .venv beside itself on first use, then hands over to builder.cli.

Standard library only, old syntax and ASCII, so that an old Python can say what is wrong with it.
Once .venv is there this reads two small files and hands over: it is on the way of every command.
"""

import os
import sys

ROOT = os.path.dirname(os.path.realpath(__file__))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "ready")
REQUIREMENTS = os.path.join(ROOT, "requirements", "builder.txt")


def main():
    if sys.platform == "win32":
        stop("this runs in WSL, not in a Python of Windows", "build.cmd    (the same arguments; it hands over to WSL)")
    if sys.version_info < (3, 10):
        stop("Python %d.%d is too old: 3.10 or newer is needed" % sys.version_info[:2], newer_python())
    if ROOT not in sys.path:  # PYTHONSAFEPATH
        sys.path.insert(0, ROOT)
    inside = os.path.realpath(sys.prefix) == os.path.realpath(VENV)
    if not up_to_date():
        if inside:  # it can't remake the environment that it runs in
            run([sys._base_executable, os.path.join(ROOT, "build.py")] + sys.argv[1:])  # noqa: RUF005
        from builder.bootstrap import venv as launcher

        launcher.make(ROOT, fingerprint)
    if not inside:
        run([PYTHON, os.path.join(ROOT, "build.py")] + sys.argv[1:])  # noqa: RUF005
    if sys.argv[1:2] == ["test"]:
        from builder.bootstrap import venv as launcher

        launcher.test(ROOT, sys.argv[2:])
    from builder.cli import main as cli

    sys.exit(cli())


def fingerprint():
    """What .venv is made of: an interpreter, a kind of machine, the locked requirements. Bytes."""
    made_with = "%s %s\n" % (os.path.realpath(PYTHON), os.uname()[4])
    with open(REQUIREMENTS, "rb") as wanted:
        return os.fsencode(made_with) + wanted.read()


def up_to_date():
    """The stamp, written last, says what .venv would be made of now; and its interpreter is still there."""
    try:
        with open(STAMP, "rb") as stamp:
            return stamp.read() == fingerprint() and os.path.exists(PYTHON)
    except OSError:
        return False


def run(command):
    """Go on as another program, without what could bring other packages into the environment."""
    for name in ("PYTHONPATH", "PYTHONHOME"):
        os.environ.pop(name, None)
    os.execv(command[0], command)


def newer_python():
    """The line to type on a machine whose python3 is old."""
    for name in ("python3.14", "python3.13", "python3.12", "python3.11", "python3.10"):
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            if is_program(os.path.join(folder, name)):
                return "%s build.py" % name
    return "apt-get install python3.11    (or your system's package, then: python3.11 build.py)"


def is_program(path):
    """Shims of version managers are scripts, and may lead nowhere: they don't count."""
    if not os.access(path, os.X_OK):
        return False
    with open(path, "rb") as start:
        return start.read(2) != b"#!"


def stop(what, following):
    sys.stderr.write("error: %s\n  next: %s\n" % (what, following))
    sys.exit(3)


if __name__ == "__main__":
    main()
