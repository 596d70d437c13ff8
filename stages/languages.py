"""Codes of languages: Whisper's, and those that containers have."""

from __future__ import annotations

CODES = """
af/afr am/amh ar/ara as/asm az/aze ba/bak be/bel bg/bul bn/ben bo/bod/tib br/bre bs/bos ca/cat cs/ces/cze
cy/cym/wel da/dan de/deu/ger el/ell/gre en/eng es/spa et/est eu/eus/baq fa/fas/per fi/fin fo/fao fr/fra/fre
gl/glg gu/guj ha/hau haw/haw he/heb hi/hin hr/hrv ht/hat hu/hun hy/hye/arm id/ind is/isl/ice it/ita ja/jpn
jw/jav ka/kat/geo kk/kaz km/khm kn/kan ko/kor la/lat lb/ltz ln/lin lo/lao lt/lit lv/lav mg/mlg mi/mri/mao
mk/mkd/mac ml/mal mn/mon mr/mar ms/msa/may mt/mlt my/mya/bur ne/nep nl/nld/dut nn/nno no/nor/nob oc/oci pa/pan
pl/pol ps/pus pt/por ro/ron/rum/mol ru/rus sa/san sd/snd si/sin sk/slk/slo sl/slv sn/sna so/som sq/sqi/alb
sr/srp su/sun sv/swe sw/swa/swh ta/tam te/tel tg/tgk th/tha tk/tuk tl/tgl/fil tr/tur tt/tat uk/ukr ur/urd uz/uzb
vi/vie yi/yid yo/yor yue/yue zh/zho/chi/cmn
"""
"""Whisper's code, that of ISO 639-2/T, and others of ISO 639-2 and 639-3; as in builder/receiver/jobs/languages.py."""

_ROWS = [row.split("/") for row in CODES.split()]

THREE = {row[0]: row[1] for row in _ROWS} | {"yue": "zho", "jv": "jav"}
"""From Whisper's code to ISO 639-2/T, which containers have (the Matroska muxer writes /B)."""

SAME = {row[0]: frozenset(row) for row in _ROWS}
"""From Whisper's code to all codes that a track in the language may have."""
