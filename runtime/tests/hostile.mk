# The long part of the fault and load table: one target per group, each bounded in time, each printing its figures.
# The quick part is in `make test`. Runs on loopback only, on a machine of two cores.

SOAK ?= 20
PYTHON ?= python3
HOSTILE_PYTHON := $(TARGET_DIR)/hostile-python
HOSTILE := MAYFLY_SOAK=$(SOAK) $(CARGO) test --release -p mayfly-runtime --test hostile --

.PHONY: soak soak-http soak-nginx soak-h2 soak-slow soak-aborts soak-imports soak-isolation soak-deploys soak-crowds \
	soak-mutants hostile-python

soak: soak-http soak-nginx soak-h2 soak-slow soak-aborts soak-imports soak-isolation soak-deploys soak-crowds soak-admin soak-mutants ## The long part of docs/reliability.md

soak-http: ## HTTP/1: framing vectors, limits, damaged messages
	timeout 900 $(HOSTILE) smuggling http_limits

soak-nginx: build hostile-python ## The framing vectors against Debian's nginx as well
	@if command -v nginx >/dev/null; then $(HOSTILE_PYTHON)/bin/python runtime/tests/python/differential_nginx.py $(MAYFLY); \
	else echo "SKIPPED: nginx is not installed (apt-get install nginx-light); nothing was compared"; fi

soak-h2: build hostile-python ## HTTP/2: seventeen attacks of 30 s, memory and a bystander watched
	timeout 900 $(HOSTILE_PYTHON)/bin/python runtime/tests/python/test_h2_abuse.py $(MAYFLY) 30

soak-slow: ## Slow and silent clients
	timeout 900 $(HOSTILE) slow

soak-aborts: ## Clients that leave at each phase
	timeout 900 $(HOSTILE) aborts

soak-imports: ## Every import fuzzed
	timeout 1800 $(HOSTILE) imports

soak-isolation: build ## 100,000 instances, page scan on and off, while memory is compacted if we may
	@if [ -w /proc/sys/vm/compact_memory ]; then compact=--compact; \
	else echo "SKIPPED: compaction needs root; the rest runs without"; fi; \
	timeout 3600 $(MAYFLY) verify isolation --alternations 100000 $$compact

soak-deploys: ## Mutants, random modules, compile bombs
	timeout 1800 $(HOSTILE) mutants

soak-crowds: ## Functions that crowd others out
	timeout 900 $(HOSTILE) crowds

soak-admin: build hostile-python ## The admin API against its own description
	timeout 900 $(HOSTILE_PYTHON)/bin/python runtime/tests/python/admin_schemathesis.py $(MAYFLY)

soak-mutants: ## Whether the tests of the leaf crate notice a changed line
	@if command -v cargo-mutants >/dev/null; then timeout 3600 $(CARGO) mutants -p mayfly-core --no-shuffle; \
	else echo "SKIPPED: cargo-mutants is not installed (cargo install cargo-mutants); no tests were tested"; fi

hostile-python:
	@[ -x $(HOSTILE_PYTHON)/bin/python ] || $(PYTHON) -m venv $(HOSTILE_PYTHON)
	@$(HOSTILE_PYTHON)/bin/pip install --quiet --requirement runtime/tests/python/requirements-hostile.txt
