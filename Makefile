# make help lists what there is; everything also works without make.
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help test test-unit test-properties test-heavy lint types house mutants lock tools example bench-job bench-weights bench-int8 bench-images bench-fetch bench-jobs bench-bundle bench-media bench-start bench-hostile bench-speech bench-translate bench-batch clean json rights outdated audit

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

test: ## all tests but the heaviest builds
	$(PYTHON) build.py test

test-unit: ## unit and golden tests: no engine, no network, and how long they took against 10 s on two cores
	@began=$$(date +%s%N); $(PYTHON) build.py test -q -n 2 tests/unit tests/golden && \
	echo "unit and golden tests: $$(( ($$(date +%s%N) - began) / 1000000 )) ms (at most 10000 on two idle cores)"

test-properties: ## the properties with 500 examples each
	$(PYTHON) build.py test --hypothesis-profile thorough tests/unit

tools: ## what the tests and the checks below import, in .venv; a fresh clone has none of it
	@$(PYTHON) build.py test --version >/dev/null

test-heavy: ## the builds that take many minutes
	$(PYTHON) build.py test -m heavy

lint: tools ## ruff, its formatter, and who imports whom
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/lint-imports --no-cache --no-logo

types: tools ## mypy: the builder strictly, the benchmarks for calls that are gone
	.venv/bin/python -m mypy
	.venv/bin/python -m mypy --config-file bench/mypy.ini

house: tools ## the measures of the layout, with their bars (add ARGS=-v for where)
	.venv/bin/python bench/house.py $(ARGS)

mutants: tools ## ten mistakes that the unit tests must notice (ARGS=--all: and mutmut's of core and views, for hours)
	.venv/bin/python bench/mutants.py $(ARGS)

json: tools ## docs/json.md from the types in builder/views, and the record of the shapes
	.venv/bin/python -m builder.views.schemas --record tests/golden/json_shapes.json
	.venv/bin/python -m builder.views.schemas > docs/json.md.new && mv docs/json.md.new docs/json.md

rights: tools ## the table of docs/security.md, from what containers may do (builder/core/jobs/sandbox.py)
	.venv/bin/python -m builder.views.rights docs/security.md

lock: tools ## write the hash-locked requirements anew (ARGS=--upgrade: with newer versions)
	PATH="$(CURDIR)/.venv/bin:$$PATH" requirements/lock.sh $(ARGS)
	.venv/bin/python requirements/stages.py $(ARGS)
	.venv/bin/python requirements/wheels.py

outdated: tools ## what the package index has newer than the locks, and why it is held back (add ARGS=--json)
	.venv/bin/python requirements/review.py outdated $(ARGS)

audit: tools ## advisories about what is locked (ADVISORIES=PATH: PyPA's database or OSV's all.zip instead of PyPI's pages)
	.venv/bin/python requirements/review.py audit $(if $(ADVISORIES),--advisories "$(ADVISORIES)") $(ARGS)

example: ## make examples/dialogue.mp4 anew (needs espeak-ng)
	"$$($(PYTHON) build.py bootstrap --json | \
		$(PYTHON) -c 'import json, sys; print(json.load(sys.stdin)["environment"])')/bin/python" examples/make.py

bench-job: ## wall time, error rates and overheads of a native job (add ARGS=--whisperx)
	PYTHONPATH=. .venv/bin/python bench/job.py $(ARGS)

bench-start: ## what a command costs before its own work, against the tree as it was (add ARGS=--containers)
	PYTHONPATH=. .venv/bin/python bench/start.py $(ARGS)

bench-images: ## sizes of images against their budgets, a build with nothing to do (add ARGS=--full)
	PYTHONPATH=. .venv/bin/python bench/images.py $(ARGS)

bench-jobs: ## jobs in containers: orchestration, leaks, whole runs (add ARGS=--whisperx)
	PYTHONPATH=. .venv/bin/python bench/jobs.py $(ARGS)
bench-weights: ## weights as layers against BuildKit's COPY --link (40 GB of disk; ARGS=--sizes 256,1024 for less)
	PYTHONPATH=. .venv/bin/python bench/weights.py $(ARGS)

bench-int8: ## weights in int8 against the float16 that they are made from: bytes, load, memory, words
	PYTHONPATH=. .venv/bin/python bench/int8.py $(ARGS)

bench-fetch: ## models fetch against huggingface_hub on a hub of this machine
	PYTHONPATH=. .venv/bin/python bench/fetch.py $(ARGS)

bench-media: ## odd recordings through demux and mux, against plain ffmpeg (ARGS="late.mkv cut.mp3" for some)
	.venv/bin/python bench/odd_media.py $(ARGS)

bench-bundle: ## bundles against cp and docker save, deltas, loading (root; add ARGS="--megabytes 512")
	PYTHONPATH=. .venv/bin/python bench/bundle.py $(ARGS)

bench-hostile: ## attacks by generators, each kind against its bar (hours; ARGS="jobs --count 200" for some)
	.venv/bin/python bench/hostile.py $(ARGS)

bench-speech: ## words, speakers, times and cues on real speech, beside peers (hours; ARGS="words --count 4" for some)
	PYTHONPATH=.:bench .venv/bin/python -m speech $(ARGS)

bench-translate: ## what translations keep, and tokens, words and text beside those of others (ARGS="terms" for some)
	PYTHONPATH=.:bench .venv/bin/python -m translate $(ARGS)

bench-batch: ## thousands of recordings beside their decoding alone, and the plan of 100,000 (ARGS="core --clips 200" for some)
	PYTHONPATH=.:bench .venv/bin/python bench/batch.py $(ARGS)

clean: ## remove environments and caches; jobs and models stay
	rm -rf .venv .venv.lock .bake/native .mypy_cache .ruff_cache .pytest_cache .hypothesis
