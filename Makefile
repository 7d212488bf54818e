# The whole set-up and every daily job. `make` alone lists the targets.
# A fresh machine needs Python >= 3.11 and nothing else; `make demo` and `make test` do their own set-up.

PYTHON   ?= python3
VENV     ?= .venv
# Where pip looks for torch, when it should be elsewhere than for the rest (PyTorch's own page of CPU-only wheels saves
# 2 GB on a machine without a GPU). Empty: where pip looks anyway, which on Linux is the CUDA build.
TORCH_INDEX ?=
# GPU=1: what a GPU machine runs, from images to trainings. Nothing of it needs torchvision.
GPU      ?=
EXTRAS   ?= $(if $(filter 1,$(GPU)),generate$(comma)vlm$(comma)annotate$(comma)dashboard$(comma)train$(comma)eval$(comma)dev,generate$(comma)dev)
PROFILE  ?= mini
SDG_HOME ?= data
PROMPTS  ?= configs/demo_prompts.txt
MODELS   ?=
SAMPLES  ?=
# Whose images `make annotate` hands out: the demo's, unless SDG_HOME was given.
ANNOTATE_HOME ?= $(if $(filter command line environment,$(origin SDG_HOME)),$(SDG_HOME),data/demo)
# Options of `sdg export run`, for `make export`.
EXPORT   ?=
EXPORT_DIR ?= $(SDG_HOME)/exports/sdg
# Options of `python -m trainers.paper.boxflow` and `trainers.paper.detector`, for make paper-mini(-detector).
PAPER      ?=

comma := ,
PY    := $(VENV)/bin/python
SDG   := $(VENV)/bin/sdg
# Label Studio has a venv of its own; LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY name a server that runs already.
LS    := .venv-labelstudio/bin/label-studio
DEMO  := $(SDG) --home data/demo
READY := $(VENV)/.ready-$(subst $(comma),-,$(EXTRAS))
export PROFILE SDG_HOME

.DEFAULT_GOAL := help
.PHONY: help setup check format test test-slow demo generate export labelstudio annotate annotate-images dashboard minis mini-detector mini-doctor paper-mini-detector paper-mini-doctor paper-mini benchmarks gpu-proof schemas reference docs clean

help: ## List the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-20s %s\n", $$1, $$2}'
	@echo
	@echo "  Settings: PROFILE=mini|sdg30k  SDG_HOME=folder  PROMPTS=file  MODELS=a,b  SAMPLES=n  EXTRAS=$(EXTRAS)  GPU=1  TORCH_INDEX=url"

setup: $(READY) ## Make .venv with the pinned versions (once; GPU=1 for a GPU machine, whose torch comes with CUDA)
	$(if $(filter 1,$(GPU)),@$(SDG) doctor --gpu || echo "What the GPU misses stands above; the rest is set up")

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "sdg-data needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another: make setup PYTHON=python3.12" % sys.version_info[:2])'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	# torch first and alone: it is the one package that may come from an index of its own.
	$(PY) -m pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PY) -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

check: $(READY) ## Style, types, import layers, JSON-schema drift
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(PY) -m schemas.export_json "$$folder" && \
	  { diff -r schemas/json "$$folder" || { echo "schemas/json has drifted from the records: run make schemas"; exit 1; }; }

format: $(READY) ## Let ruff mend what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

schemas: $(READY) ## Write the JSON Schemas anew from the records
	$(PY) -m schemas.export_json

reference: $(READY) ## Write docs/reference/cli.md anew from the commands' help
	$(PY) -m sdg_data.cli_reference > docs/reference/cli.md

docs: .venv-docs/.ready ## Build the documentation's site into build/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict
	@echo "Open build/site/index.html"

# A venv of its own, so that the site's tools burden nobody who works on the code.
.venv-docs/.ready: constraints.txt
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet -c constraints.txt mkdocs-material
	@touch $@

test: $(READY) ## The tests that take seconds
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow"

test-slow: $(READY) $(LS) ## The tests that take minutes
	HYPOTHESIS_PROFILE=search OMP_NUM_THREADS=1 $(PY) -m pytest -m slow

demo: export PROFILE = mini
demo: $(READY) $(if $(LABEL_STUDIO_URL),,$(LS)) ## The whole flow on the mini profile, from prompts to verified shards (simulated people)
	$(DEMO) prompts import $(PROMPTS) --source demo
	$(DEMO) generate run
	# 10: some images have no readable answer, which is recorded; they go to people without prelabels
	$(DEMO) prelabel run || test $$? = 10
	$(DEMO) annotate server start
	$(DEMO) annotate init
	$(DEMO) annotate push
	$(DEMO) annotate simulate --people 4
	$(DEMO) annotate pull
	$(DEMO) annotate review
	$(DEMO) annotate simulate --review --reviewers 2
	$(DEMO) annotate pull
	$(DEMO) annotate review
	$(DEMO) annotate report --json data/demo/report.json
	$(DEMO) annotate server stop
	$(DEMO) enrich run
	$(DEMO) export run --name demo --output data/demo/exports/demo
	$(DEMO) export verify data/demo/exports/demo
	$(DEMO) images sheet --output data/demo/sheet.png --boxes prelabels
	# 10: the detector's answer about some edit could not be read, which is recorded; it is not accepted
	$(DEMO) refine run --models mini-flux2 --limit 6 || test $$? = 10
	$(DEMO) refine report --judge oracle --sheet data/demo/refined.png
	@echo "Look at data/demo/sheet.png (every model on every prompt, the detector's boxes), at data/demo/refined.png (repaired"
	@echo "images, before and after) and at data/demo/exports/demo/README.md;"
	@echo "\`make dashboard SDG_HOME=data/demo\` shows all of it, \`make annotate\` lets you correct the boxes yourself"

generate: $(READY) ## Images for all prompts: make generate PROMPTS=file [MODELS=a,b] [SAMPLES=n] [PROFILE=sdg30k]
	$(SDG) prompts import $(PROMPTS)
	$(SDG) generate run $(if $(MODELS),--models $(MODELS)) $(if $(SAMPLES),--samples-per-prompt $(SAMPLES))

export: $(READY) ## Shards of what counts, checked: make export [SDG_HOME=folder] [EXPORT="--format hf --unreviewed"]
	$(SDG) export run --output $(EXPORT_DIR) $(EXPORT)
	$(SDG) export verify $(EXPORT_DIR)

$(LS): | $(READY)
	$(SDG) annotate server install

labelstudio: $(READY) $(if $(LABEL_STUDIO_URL),,$(LS)) ## A Label Studio of our own on loopback: address and log-in
	$(SDG) annotate server start

# The demo's simulated people did all of its images: these are for you.
annotate-images: export PROFILE = mini
annotate-images: $(READY)
	$(DEMO) prompts import configs/annotate_prompts.txt --source demo
	$(DEMO) generate run
	$(DEMO) prelabel run || test $$? = 10

annotate: $(READY) ## Bring the demo's images to people: server, project, tasks (SDG_HOME=folder for other images)
	@test -e $(ANNOTATE_HOME)/store.duckdb || test $(ANNOTATE_HOME) != data/demo || $(MAKE) demo
	@test $(ANNOTATE_HOME) != data/demo || $(MAKE) annotate-images
	$(MAKE) labelstudio SDG_HOME=$(ANNOTATE_HOME)
	$(SDG) --home $(ANNOTATE_HOME) annotate init
	$(SDG) --home $(ANNOTATE_HOME) annotate push
	@echo "Open the address above and log in. \`$(SDG) --home $(ANNOTATE_HOME) annotate watch\` brings in what people enter"

dashboard: $(READY) ## Look at the store in a browser, on this machine: make dashboard [SDG_HOME=folder]
	$(SDG) dashboard

minis: $(READY) ## Train the mini family again by its recipe (its weights are committed; rarely needed)
	$(SDG) minis train

MD := data/mini-detector
MD_HOME = $(SDG) --home $(MD)/home
mini-detector: $(MD)/shards/manifest.json $(MD)/base/config.json ## Train the mini profile's detector again (make -j2; under two hours; its weights are committed)
	$(PY) -m trainers.paper.detector --out $(MD) --arms base,sft,grpo
	$(PY) -m trainers.paper.detector.breakdown base=$(MD)/eval-base SFT=$(MD)/eval-sft "SFT + GRPO=$(MD)/eval-grpo" \
	  --data $(MD)/shards --home $(MD)/home --out $(MD)/paper
	$(MD_HOME) eval run --gt gold --pred source:simulated-ceiling --split test --json $(MD)/ceiling.json
	$(SDG) train mini-detector ship --run $(MD)/grpo --evaluation $(MD)/eval-grpo/evaluation.json --ceiling $(MD)/ceiling.json

# Rendered scenes with exact labels, and the minis' images as simulated people correct them.
$(MD)/shards/manifest.json: | $(READY)
	mkdir -p $(MD)
	$(SDG) minis prompts --count 3000 --seed 51 > $(MD)/prompts.txt
	$(MD_HOME) prompts import $(MD)/prompts.txt --source mini
	$(MD_HOME) generate run --models mini-zimage --limit 1400 --batch-size 32
	$(MD_HOME) generate run --models mini-flux2 --limit 900 --batch-size 32
	$(MD_HOME) generate run --models mini-sana --limit 900 --batch-size 32
	$(MD_HOME) generate run --models mini-longcat --limit 600 --batch-size 32
	$(MD_HOME) train mini-detector corpus --rendered 1000
	$(MD_HOME) enrich run --unreviewed
	$(MD_HOME) export run --unreviewed --without-source simulated-ceiling --name mini --output $(MD)/shards --no-phash

$(MD)/base/config.json: | $(READY)
	$(SDG) train mini-detector base --work $(MD) --out $(MD)/base

paper-mini-detector: $(MD)/shards/manifest.json $(MD)/base/config.json ## The detector's base, SFT, ablations and GRPO in one table (long; resumes)
	$(PY) -m trainers.paper.detector --out $(MD) $(PAPER)

MDOC := data/mini-doctor
MDOC_HOME = $(SDG) --home $(MDOC)/home
mini-doctor: $(MDOC)/shards/manifest.json ## Train the mini world's ImageDoctor: both stages, then by rewards (one core, an hour)
	$(PY) -m trainers.paper.doctor --out $(MDOC) --arms stage1,stage2,rft --seeds 1

$(MDOC)/shards/manifest.json: | $(READY)
	$(MDOC_HOME) train mini-doctor corpus
	$(MDOC_HOME) enrich run --unreviewed
	$(MDOC_HOME) export run --unreviewed --name mini-doctor --output $(MDOC)/shards --no-phash

paper-mini-doctor: $(MDOC)/shards/manifest.json ## ImageDoctor's ablation in miniature, and boxes against heatmaps (long; resumes)
	$(PY) -m trainers.paper.doctor --out $(MDOC) $(PAPER)

paper-mini: $(READY) ## Seven ways to train the toy FLUX.2 on rewards, judged by the oracle (long; resumes)
	$(PY) -m trainers.paper.boxflow --out data/paper-mini $(PAPER)

benchmarks: $(READY) $(LS) ## Run every benchmark
	@set -e; for script in benchmarks/*.py benchmarks/annotate benchmarks/export; do echo "== $$script"; OMP_NUM_THREADS=1 $(PY) $$script; done

gpu-proof: $(READY) ## Speed and memory of this machine's GPU at real sizes, random weights, no network (8 minutes; CHECKS=a,b)
	$(PY) benchmarks/gpu_proof $(if $(CHECKS),--only $(CHECKS))

clean: ## Remove caches and builds (keeps .venv and data)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -type d -prune -exec rm -rf {} +
