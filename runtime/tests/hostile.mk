# The long part of the fault and load table: one target per group, each bounded in time, each printing its figures.
# The quick part is in `make test`. Runs on loopback only, on a machine of two cores.

SOAK ?= 20
PYTHON ?= python3
HOSTILE_PYTHON := $(TARGET_DIR)/hostile-python
HOSTILE_RUN = timeout 2400 $(HOSTILE_PYTHON)/bin/python runtime/tests/python
# Seconds that each fuzz target explores, and minutes of the long run under mixed load.
FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 30
FUZZ_TARGETS := framing cgi_head frames inference module child_answer kernels names
# What `make try-models` tries: models or groups of runtime/tests/models/models.toml, as in ONLY='half-*'.
ONLY ?= *
TRIED_MODELS := $(TARGET_DIR)/models
HOSTILE := MAYFLY_SOAK=$(SOAK) $(CARGO) test --release -p mayfly-runtime --test hostile --

PEERS := $(TARGET_DIR)/peers
# Programs of others that `make peers-http` tries, each with its Debian package.
PEERS_DEBIAN := hey:hey ab:apache2-utils curl:curl node:nodejs nginx:nginx-light haproxy:haproxy caddy:caddy varnishd:varnish

.PHONY: peers-http peers-http-ready peers-proxied peers-kserve test-bodies cgi-go soak soak-guard soak-http soak-nginx soak-h2 soak-slow soak-aborts soak-imports soak-isolation soak-deploys soak-deploy-memory soak-crowds \
	soak-mutants soak-models test-models try-models try-models-ready soak-tenants soak-storage soak-clients soak-pressure soak-load soak-slow-clients soak-fuzz soak-pictures soak-long hostile-python

soak: templates soak-guard soak-http soak-nginx peers-proxied peers-kserve test-bodies soak-h2 soak-slow soak-slow-clients soak-aborts soak-imports soak-fuzz soak-isolation soak-deploys soak-deploy-memory \
	soak-pictures soak-models soak-tenants soak-clients soak-storage soak-crowds soak-load soak-pressure soak-admin soak-mutants soak-long ## The long part of docs/reliability.md

soak-http: ## HTTP/1: framing vectors, limits, damaged messages
	timeout 900 $(HOSTILE) smuggling http_limits

soak-nginx: build hostile-python ## The framing vectors against Debian's nginx as well
	@if command -v nginx >/dev/null; then $(HOSTILE_PYTHON)/bin/python runtime/tests/python/differential_nginx.py $(MAYFLY); \
	else echo "SKIPPED: nginx is not installed (apt-get install nginx-light); nothing was compared"; fi

peers-proxied: build hostile-python ## What functions see behind nginx, HAProxy and Caddy, configured as docs/proxies.md says
	timeout 300 $(HOSTILE_PYTHON)/bin/python runtime/tests/python/test_proxies.py $(MAYFLY)

test-bodies: build guests languages cgi-go hostile-python ## Bodies of every framing, over HTTP/1, HTTP/2 and nginx, to programs of ours and of others; QUICK=1: in half a minute
	timeout 900 $(HOSTILE_PYTHON)/bin/python runtime/tests/python/test_bodies.py $(MAYFLY) \
		--guests $(GUESTS) --languages $(LANGUAGES) $(if $(QUICK),--quick)

# For WASI, and for the machine itself, so that a server of others can run it too.
cgi-go:
	@mkdir -p $(LANGUAGES)
	@if $(GO) version >/dev/null 2>&1; then export GOTOOLCHAIN=local; \
	GOOS=wasip1 GOARCH=wasm $(GO) build -ldflags=-s -o $(LANGUAGES)/$@.wasm runtime/tests/peers/cgi_program.go && \
	CGO_ENABLED=0 $(GO) build -ldflags=-s -o $(LANGUAGES)/$@ runtime/tests/peers/cgi_program.go; \
	else rm -f $(LANGUAGES)/$@ $(LANGUAGES)/$@.wasm; echo "SKIPPED: $@ was not built: run make toolchain-go"; fi

soak-h2: build hostile-python ## HTTP/2: seventeen attacks of 30 s, memory and a bystander watched
	timeout 900 $(HOSTILE_PYTHON)/bin/python runtime/tests/python/test_h2_abuse.py $(MAYFLY) 30

peers-http: build guests peers-http-ready ## Clients and proxies of others lose no answer that comes before a body is read; QUICK=1: in three minutes
	timeout $(if $(QUICK),600,7200) $(PEERS)/python/bin/python runtime/tests/python/peers_http.py $(MAYFLY) \
		--guests $(GUESTS) --go-client $(PEERS)/go-client $(if $(QUICK),--quick) $(PEERS_OPTIONS)

# What cannot be had is skipped by the test, loudly. No service of Debian's is started (RUNLEVEL).
peers-http-ready:
	@[ -x $(PEERS)/python/bin/python ] || $(PYTHON) -m venv $(PEERS)/python
	@$(PEERS)/python/bin/pip install --quiet --requirement runtime/tests/python/requirements-peers.txt
	@missing=; for each in $(PEERS_DEBIAN); do command -v $${each%:*} >/dev/null || missing="$$missing $${each#*:}"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ]; then apt-get update -qq || true; for package in $$missing; do \
		RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$package >/dev/null || true; done; fi
	@[ -n "$(GO)" ] || $(MAKE) --no-print-directory toolchain-go || true
	@go=$(PY_TOOLS)/go; [ -x $$go ] || go=go; \
	GOTOOLCHAIN=local $$go build -o $(PEERS)/go-client runtime/tests/peers/http_client.go || rm -f $(PEERS)/go-client

soak-slow: ## Slow and silent clients
	timeout 900 $(HOSTILE) slow

soak-guard: ## 20,000 guests that count what they do between two checks of time, 20,000 modules rewritten and plain
	MAYFLY_SOAK=100 timeout 3000 $(CARGO) test --release -p mayfly-publish --lib guard

soak-aborts: ## Clients that leave at each phase
	timeout 900 $(HOSTILE) aborts

soak-imports: ## Every import fuzzed
	timeout 1800 $(HOSTILE) imports

soak-isolation: build ## 100,000 instances and hashes while memory is compacted if we may
	@if [ -w /proc/sys/vm/compact_memory ]; then compact=--compact; \
	else echo "SKIPPED: compaction needs root; the rest runs without"; fi; \
	[ ! -e $(GUESTS)/hello.wasm ] || guest="--guest $(GUESTS)/hello.wasm"; \
	timeout 3600 $(MAYFLY) verify isolation --alternations 100000 $$compact $$guest

soak-deploys: ## Mutants, random modules, compile bombs
	timeout 1800 $(HOSTILE) mutants

peers-kserve: build guests ## KServe's client from PyPI (450 MB)
	@[ -x $(TARGET_DIR)/kserve/bin/python ] || $(PYTHON) -m venv $(TARGET_DIR)/kserve
	@$(TARGET_DIR)/kserve/bin/pip install --quiet --requirement runtime/tests/python/requirements-kserve.txt
	timeout 600 $(TARGET_DIR)/kserve/bin/python runtime/tests/python/test_kserve.py $(MAYFLY)

soak-deploy-memory: build guests $(TOOLCHAINS)/onnx/installed ## What a node keeps of a model of 86 MiB after 100 deploys and removals
	timeout 3600 $(TOOLCHAINS)/onnx/bin/python runtime/tests/python/test_deploy_memory.py $(MAYFLY)

soak-crowds: ## Functions that crowd others out
	timeout 900 $(HOSTILE) crowds

soak-clients: build hostile-python ## 2,500 clients that ask for much and take or send little, in twenty ways: memory, and a bystander
	timeout 3600 $(HOSTILE_PYTHON)/bin/python runtime/tests/python/test_client_memory.py $(MAYFLY)

soak-admin: build hostile-python ## The admin API against its own description
	timeout 900 $(HOSTILE_PYTHON)/bin/python runtime/tests/python/admin_schemathesis.py $(MAYFLY)

soak-storage: build hostile-python ## A disk that fails at each call of a deploy, fills up, or cannot be written to (as root)
	@if command -v strace >/dev/null; then $(HOSTILE_RUN)/test_storage.py $(MAYFLY); \
	else echo "SKIPPED: strace is not installed (apt-get install strace); no call failed"; fi

soak-pressure: build hostile-python ## Too few descriptors, too little memory or address space, clocks that jump
	$(HOSTILE_RUN)/test_pressure.py $(MAYFLY)

soak-load: build hostile-python ## Kills and overload, redeploys under load, eight clients deploying one name, removal under load
	$(HOSTILE_RUN)/test_load.py $(MAYFLY)

soak-pictures: build hostile-python ## Picture bombs and 2,000 damaged pictures for a model (needs `make guests`)
	@if [ -e $(GUESTS)/classify.wasm ]; then $(HOSTILE_RUN)/test_pictures.py $(MAYFLY) $(GUESTS)/classify.wasm; \
	else echo "SKIPPED: $(GUESTS)/classify.wasm is not there (make guests); no picture was posted"; fi

# Graphs of two to eight nodes, each answered in a guest and by ONNX Runtime. A seed makes one; `FUZZ_MODELS='--seeds 7'` is one.
FUZZ_MODELS_RUN = $(CARGO) build --profile guest --target $(GUEST_TARGET) -p onnx-cases && \
	timeout 3600 $(TOOLCHAINS)/onnx/bin/python runtime/tests/python/fuzz_models.py --mayfly $(MAYFLY) --guest $(GUESTS)/onnx_cases.wasm \
	--failures $(TARGET_DIR)/fuzz-models

test-models: build toolchain $(TOOLCHAINS)/onnx/installed ## 500 graphs drawn from all operators, against ONNX Runtime
	$(FUZZ_MODELS_RUN) --count 500 $(FUZZ_MODELS)

soak-models: build toolchain $(TOOLCHAINS)/onnx/installed ## 20,000 of them; writes docs/operators.md
	$(FUZZ_MODELS_RUN) --count 20000 --table docs/operators.md --list runtime/tests/onnx/passing.txt $(FUZZ_MODELS)

soak-tenants: build hostile-python ## One tenant does its worst, in twenty ways and in pairs, while another is served
	$(HOSTILE_RUN)/test_tenants.py $(MAYFLY)

soak-slow-clients: build hostile-python ## slowhttptest: heads, bodies and readers, 900 at once
	$(HOSTILE_RUN)/test_slow_clients.py $(MAYFLY)

soak-long: build hostile-python ## SOAK_MINUTES (30) of mixed load, traps and redeploys
	timeout 7200 $(HOSTILE_PYTHON)/bin/python runtime/tests/python/soak.py $(MAYFLY) $(SOAK_MINUTES)

soak-fuzz: ## Each fuzz target for FUZZ_SECONDS (60); needs a nightly toolchain
	@if $(CARGO) +nightly fuzz --version >/dev/null 2>&1; then for target in $(FUZZ_TARGETS); do \
		$(CARGO) +nightly fuzz run --sanitizer none --fuzz-dir runtime/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=16384 || exit 1; done; \
	else echo "SKIPPED: cargo-fuzz or a nightly toolchain is missing (cargo install cargo-fuzz); nothing was fuzzed"; fi

soak-mutants: ## Whether the tests of the leaf crate notice a changed line
	@if command -v cargo-mutants >/dev/null; then timeout 3600 $(CARGO) mutants -p mayfly-core --no-shuffle; \
	else echo "SKIPPED: cargo-mutants is not installed (cargo install cargo-mutants); no tests were tested"; fi

try-models: build guests try-models-ready ## Over 200 models that people have, with fixed shapes and with open ones, beside ONNX Runtime; goes on where it was stopped; ONLY=pattern, TORCH=1; QUICK=1: fixed shapes in three minutes
	$(if $(QUICK),$(CARGO) build --profile guest --target $(GUEST_TARGET) -p onnx-cases)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(TRIED_MODELS)/python/bin/python -W ignore \
		runtime/tests/python/$(if $(QUICK),quick_models.py --guest $(GUESTS)/onnx_cases.wasm,try_models.py --runner $(GUESTS)/runner.wasm) \
		--mayfly $(MAYFLY) --cache $(TRIED_MODELS) --only '$(ONLY)' \
		$(if $(wildcard $(TRIED_MODELS)/torch/bin/python),--torch $(TRIED_MODELS)/torch/bin/python) $(MODELS_OPTIONS)

# PyTorch is 6 GB, so it has to be asked for; what it has exported stays when it is deleted.
try-models-ready:
	@[ -x $(TRIED_MODELS)/python/bin/python ] || $(PYTHON) -m venv $(TRIED_MODELS)/python
	@$(TRIED_MODELS)/python/bin/pip install --quiet --requirement runtime/tests/models/requirements.txt
	@if [ -n "$(TORCH)" ]; then [ -x $(TRIED_MODELS)/torch/bin/python ] || $(PYTHON) -m venv $(TRIED_MODELS)/torch; \
	$(TRIED_MODELS)/torch/bin/pip install --quiet --no-cache-dir --requirement runtime/tests/models/requirements-torch.txt; fi

hostile-python:
	@[ -x $(HOSTILE_PYTHON)/bin/python ] || $(PYTHON) -m venv $(HOSTILE_PYTHON)
	@$(HOSTILE_PYTHON)/bin/pip install --quiet --requirement runtime/tests/python/requirements-hostile.txt

