# The commands people start with: `make run` serves an image, `make test` checks everything.
# Works in a fresh clone on Debian 12 with node, npm, make and git; see README.md.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.PHONY: build run dev check test sim chaos bench bench-recovery bench-master checklist-table deps-build deps-test clean

export PATH := $(PATH):/usr/sbin:/sbin

MANIFESTS := package.json package-lock.json $(wildcard */package.json)
INSTALLED := node_modules/.package-lock.json

# Installs the packages when they are missing or older than what the manifests ask for.
$(INSTALLED): $(MANIFESTS)
	@./test/install-packages build build-packages.txt
	npm ci
	@touch $@

build: $(INSTALLED)
	@node_modules/.bin/tsc -b
	@node tools/dist/bundle-programs.js

# A foreground job of its own: Ctrl-C goes to the server alone, which drains and exits 0. make would
# otherwise report the interrupt as an error of its own.
RUN = node_modules/.bin/store-nbd --dir store-data --pool testpool --image vm1 --create --size 100M --print-attach
run: build
	@if [ -t 0 ]; then set -m; $(RUN) & fg >/dev/null; else exec $(RUN); fi

# A cluster on this machine: master, three storage daemons, NBD gateway, dashboard. Ctrl-C stops all of it.
DEV = node_modules/.bin/store dev up $(ARGS)
dev: build
	@if [ -t 0 ]; then set -m; $(DEV) & fg >/dev/null; else exec $(DEV); fi

# What a program can check well: types, lint, format, who imports whom.
check: build
	@node_modules/.bin/eslint .
	@node_modules/.bin/prettier --check --log-level warn .
	@node test/dist/layers/layers.test.js >/dev/null || node test/dist/layers/layers.test.js
	@echo 'check: ok'

# Everything, or the files whose names contain one of the words: make test FILES="kill power"
test: deps-test check
	@FILES="$(FILES)" node test/dist/runner/main.js

# Whole clusters in one process, from seeds: make sim SEEDS=2000, make sim SEED=7 PROFILE=power (with a trace),
# make sim SABOTAGE='reads need no lease' (a planted bug); FIRST, FAILURES and WITHOUT as in test/src/sim/main.ts.
sim: build
	@SEEDS="$(SEEDS)" SEED="$(SEED)" PROFILE="$(PROFILE)" SABOTAGE="$(SABOTAGE)" FIRST="$(FIRST)" \
	FAILURES="$(FAILURES)" WITHOUT="$(WITHOUT)" node test/dist/sim/main.js

# Five daemons, three copies, and everything goes wrong: make chaos SECONDS=1800 SEED=7
chaos: deps-test build
	@CHAOS_SECONDS="$(or $(SECONDS),90)" $(if $(SEED),STORE_SEED="$(SEED)") node --enable-source-maps test/dist/system/chaos.test.js

# Our NBD server beside others, with the same work on the same disk: make bench ARGS='--quick' (or --help)
bench: deps-test build
	@node test/dist/bench/main.js $(ARGS)

# What it costs clients that a copy is lost, and how fast it is there again: make bench-recovery ARGS='--size 256M'
bench-recovery: deps-test build
	@node test/dist/bench/recovery.js $(ARGS)

# How a master does at 1,000 daemons and 100 pools.
bench-master: build
	@node test/dist/bench/master-scale.js

# Which test proves which piece of the protocol, written into gateway-nbd/README.md.
checklist-table: build
	@node test/dist/checklist/main.js

deps-test:
	@./test/install-packages test test-packages.txt

clean:
	@node_modules/.bin/tsc -b --clean
	@rm -rf tools/dist/bundle
