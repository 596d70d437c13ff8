"""Strings that somebody else's program would act on: fragments of every language that this project writes, put together."""

from __future__ import annotations

import random

TERMINAL = (
    *("\x1b[2J", "\x1b]0;evil\x07", "\x1b]8;;http://evil\x1b\\", "\x1b[201~", "\x9b31m", "\x9d0;evil\x9c", "\x90q\x9c"),
    *("\r", "\b\b\b", "\x7f", "\x0c", "\x0b", "\x07", "\x00", "\x0e", "\x84", "\x85", "\u2028", "\u2029"),
    *("\u202e", "\u2066", "\u2069", "\u200f", "\u061c", "\ufeff", "\u00ad", "\U000e0041", "\ufff9", "\udcff", "\ud800"),
    *("\nerror: evil", "\nnext: rm -r /", "\r\nok", "\t"),
)
SHELL = (
    *(
        "$(evil)",
        "`evil`",
        ";evil",
        "&&evil",
        "|evil",
        ">evil",
        "<evil",
        "\nevil\n",
        "'",
        '"',
        "\\",
        "\\\n",
        "$IFS",
        "${evil}",
    ),
    *("!!", "*", "?", "[a]", "~", "#", "-rf", "--help", "=evil", "$'", '$"', "(evil)", "{a,b}", " ", "&", "'\"'\"'"),
)
DOCKERFILE = (
    "\nRUN evil",
    "\\\nRUN evil",
    " AS evil",
    "# syntax=evil/x",
    "<<EOF\nevil\nEOF",
    "--mount=type=ssh",
    "`",
    "$evil",
)
BAKE = ("${evil}", "%{if true}evil%{endif}", '", "evil": "', "$${", "%%{", '"}', "\\u0022", "</script>")
YAML = (
    *(
        ": ",
        " #",
        "\n- evil",
        "\n  evil: 1\n",
        "&a",
        "*a",
        "!!python/object",
        "---\n",
        "...\n",
        "? ",
        "|\n",
        ">-\n",
        "<<: *a",
    ),
    *(
        "{evil: 1}",
        "[evil]",
        "@",
        "%",
        "\t- x",
        "\x85- evil",
        "\u2028evil: 1",
        "${{ evil }}",
        "$$",
        "${evil}",
        "null",
        "yes",
    ),
)
HTML = (
    *(
        "<script>evil()</script>",
        "</script><script>evil()",
        "<!--",
        "-->",
        "]]>",
        "<img src=x onerror=evil()>",
        '"><b>',
        "'><b>",
    ),
    *(
        " onmouseover=evil() ",
        "javascript:evil()",
        "&lt;b&gt;",
        "&#x3c;",
        "&",
        "</style>",
        "<base href=//evil>",
        "</template>",
    ),
    *("{{ evil }}", "{% evil %}", "{# ", "</textarea>", "<svg/onload=evil()>", "\u2028", "</title>", "</div>"),
)
SUBTITLES = (
    *(
        "-->",
        "\n\n7\n00:00:01,000 --> 00:00:02,000\nevil",
        "<v evil>",
        "</v>",
        "<c.evil>",
        "<00:00:01.000>",
        "NOTE ",
        "STYLE\n",
    ),
    *(
        "{\\an8}",
        "{\\p1}",
        "\\N",
        "\\h",
        "}",
        "{",
        ",",
        "\nDialogue: 0,0:00:00.00,0:00:01.00,,,0,0,0,,evil",
        "[Events]",
        "*x",
    ),
    *(
        "=cmd|' /C calc'!A0",
        "+1",
        "-1",
        "@SUM(1)",
        "\t=1",
        "＝1",
        '"',
        '",',
        "\r\n",
        ";;",
        "SPEAKER x 1",
        "<w:p>",
        "&amp;",
        "]]>",
    ),
)
PATHS = (
    "../",
    "/",
    "..",
    ".",
    "//evil",
    "\\",
    "a/../../b",
    "C:\\",
    "CON",
    "~/",
    "file:",
    "%2e%2e%2f",
    "\x00",
    ".hidden",
    "-o",
)
PLAIN = ("x", "Ada", "talk 1", "é", "漢字", "کتاب\u200cها", "🙂", "a.b", "1", "")

EVERY = (*TERMINAL, *SHELL, *DOCKERFILE, *BAKE, *YAML, *HTML, *SUBTITLES, *PATHS)


def payload(chance: random.Random, own: tuple[str, ...]) -> str:
    """A string of one to six fragments, most of them of one language; now and then a long one, or any characters at all."""
    if chance.random() < 0.05:
        return "".join(chr(chance.choice((chance.randrange(0x100), chance.randrange(0x110000)))) for _ in range(20))
    count = chance.choice((1, 1, 2, 3, 6))
    parts = [chance.choice(chance.choice((own, own, EVERY, PLAIN))) for _ in range(count)]
    return "".join(parts) * (50 if chance.random() < 0.02 else 1)
